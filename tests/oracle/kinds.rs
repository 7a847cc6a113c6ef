//! The types of columns and expressions, and values of each.

use Kind::{
    Address, Bool, Bpchar, Bytea, Date, FieldName, Float4, Float8, Inet, Int2, Int4, Int8, IntArray,
    Interval, JsonKey, JsonPath, Jsonb, Level, Like, Money, Mood, Numeric, PlainJson, Regex, Small, Text,
    TextArray, TextC, Time, Timestamp, Timestamptz, Uuid, UuidArray, Varchar,
};

/// A type. The last six are only ever literals of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    /// `numeric(10,2)`
    Money,
    Float4,
    Float8,
    Text,
    Varchar,
    Bpchar,
    /// `text collate "C"`
    TextC,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    PlainJson,
    Jsonb,
    Bytea,
    /// An enum.
    Mood,
    /// A domain over `int4`.
    Level,
    /// A domain over `text`.
    Address,
    Inet,
    IntArray,
    TextArray,
    UuidArray,
    /// A pattern of LIKE.
    Like,
    /// A regular expression.
    Regex,
    /// A key of an object.
    JsonKey,
    /// A path into a document.
    JsonPath,
    /// A whole number near zero.
    Small,
    /// What `extract` takes out.
    FieldName,
}

/// What a table may have columns of.
pub const COLUMNS: [Kind; 28] = [
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Money,
    Float4,
    Float8,
    Text,
    Varchar,
    Bpchar,
    TextC,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    PlainJson,
    Jsonb,
    Bytea,
    Mood,
    Level,
    Address,
    Inet,
    IntArray,
    TextArray,
    UuidArray,
];

/// Users that rows and claims speak of.
pub const ALICE: &str = "a0000000-0000-4000-8000-000000000001";
pub const BOB: &str = "b0000000-0000-4000-8000-000000000002";

impl Kind {
    /// The name in SQL, with its modifiers.
    pub fn sql(self) -> &'static str {
        match self {
            Bool => "bool",
            Int2 => "int2",
            Int4 | Small => "int4",
            Int8 => "int8",
            Numeric => "numeric",
            Money => "numeric(10,2)",
            Float4 => "float4",
            Float8 => "float8",
            Text | TextC | Like | Regex | JsonKey | FieldName => "text",
            Varchar => "varchar(8)",
            Bpchar => "char(4)",
            Uuid => "uuid",
            Date => "date",
            Time => "time",
            Timestamp => "timestamp",
            Timestamptz => "timestamptz",
            Interval => "interval",
            PlainJson => "json",
            Jsonb => "jsonb",
            Bytea => "bytea",
            Mood => "world.mood",
            Level => "world.level",
            Address => "world.address",
            Inet => "inet",
            IntArray => "int4[]",
            TextArray | JsonPath => "text[]",
            UuidArray => "uuid[]",
        }
    }

    /// What goes behind the type of a column.
    pub fn collation(self) -> &'static str {
        if self == TextC { " collate \"C\"" } else { "" }
    }

    /// `=` and `<` are defined.
    pub fn is_ordered(self) -> bool {
        !matches!(self, PlainJson)
    }

    /// A literal stands as it is, without a cast.
    pub fn is_bare(self) -> bool {
        matches!(self, Like | Regex | JsonKey | JsonPath | Small | FieldName)
    }

    /// Values, as SQL literals without a cast. NULL is not among them.
    pub fn values(self) -> &'static [&'static str] {
        match self {
            Bool => &["true", "false"],
            Int2 => &["0", "1", "2", "-7", "'-32768'", "32767"],
            Int4 => &["0", "1", "2", "3", "3", "-7", "'-2147483648'", "2147483647"],
            Small => &["0", "1", "2", "3", "5"],
            Int8 => &[
                "0",
                "1",
                "3",
                "-1",
                "'-9223372036854775808'",
                "9223372036854775807",
                "4294967296",
            ],
            Numeric => &[
                "0",
                "1",
                "1.0",
                "1.50",
                "'-0.5'",
                "3",
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
                "1e20",
                "1e-20",
                "12345678901234567890.123456789",
            ],
            Money => &["0", "1", "1.5", "2.00", "'-7.25'", "99999999.99", "'NaN'"],
            Float4 | Float8 => &[
                "0",
                "'-0'",
                "1",
                "1.5",
                "-2.5",
                "0.1",
                "1e-30",
                "3",
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
                "1e30",
                "16777217",
            ],
            Text | TextC => &[
                "''",
                "'a'",
                "'A'",
                "'b'",
                "'abc'",
                "'a_c'",
                "'a%c'",
                "'é☃'",
                "'É'",
                "'ß'",
                "'İ'",
                "'null'",
                "' a '",
                "E'\\\\n\\n\\t'",
                "'o''clock'",
                "'\"q\"'",
                "'12'",
                "'3'",
                "'true'",
                "'pro'",
                "'1e3'",
                "'日本'",
                "'a0000000-0000-4000-8000-000000000001'",
                "'2026-01-01'",
                "'{a,b}'",
                "'{\"k\": 1}'",
            ],
            Varchar => &[
                "''",
                "'a'",
                "'A'",
                "'abc'",
                "'ä'",
                "'b''b'",
                "E'\"\\\\'",
                "'a  '",
                "'pro'",
            ],
            Bpchar => &["''", "'a'", "'ab'", "'abcd'", "'AB'", "'é'", "' a'"],
            Uuid => &[
                "'a0000000-0000-4000-8000-000000000001'",
                "'b0000000-0000-4000-8000-000000000002'",
                "'00000000-0000-0000-0000-000000000000'",
                "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            ],
            Date => &[
                "'2026-01-01'",
                "'2025-12-31'",
                "'2024-02-29'",
                "'1999-12-31'",
                "'infinity'",
                "'-infinity'",
                "'0044-03-15 BC'",
                "'4713-01-01 BC'",
                "'5874897-12-31'",
            ],
            Time => &["'00:00'", "'24:00'", "'12:30:15.123456'", "'23:59:59.999999'"],
            Timestamp => &[
                "'2026-01-01 00:00'",
                "'2026-06-01 12:34:56.789'",
                "'1969-12-31 23:59:59.999999'",
                "'infinity'",
                "'-infinity'",
                "'0044-03-15 12:00 BC'",
                "'294276-12-31 23:59:59'",
                "'2024-02-29'",
            ],
            Timestamptz => &[
                "'2026-01-01 00:00+00'",
                "'2026-06-01 00:00+02'",
                "'2031-01-01 00:00+00'",
                "'infinity'",
                "'-infinity'",
                "'0044-03-15 12:00+00 BC'",
                "'20260-01-01 00:00+00'",
                "'2025-03-30 01:30+00'",
            ],
            Interval => &[
                "'0'",
                "'1 day'",
                "'24:00'",
                "'1 month'",
                "'30 days'",
                "'-1 year 2 mons'",
                "'1 day -00:00:01'",
                "'1000 years'",
                "'00:00:00.000001'",
            ],
            PlainJson => &[
                "'null'",
                "'{\"k\": \"v\"}'",
                "'{\"k\":1, \"k\":2}'",
                "'[1, null, \"a\"]'",
                "'\"s\"'",
                "'1.0'",
                "'{\"n\": {\"k\": [3]}, \"user\": \"a0000000-0000-4000-8000-000000000001\"}'",
                "'{\"é\": \"\\u00e9\"}'",
            ],
            Jsonb => &[
                "'null'",
                "'{}'",
                "'{\"k\": \"v\"}'",
                "'{\"k\": null, \"b\": true}'",
                "'[1, null, \"a\"]'",
                "'[]'",
                "'\"s\"'",
                "'1.0'",
                "'1'",
                "'true'",
                "'{\"n\": {\"k\": [3, 1e2]}, \"team\": 3}'",
                "'[\"k\", \"a\"]'",
                "'{\"user\": \"a0000000-0000-4000-8000-000000000001\", \"k\": \"é\"}'",
                "'[[1, 2], {\"k\": 1}]'",
            ],
            Bytea => &["'\\x'", "'\\x00ff'", "'\\x61'", "'\\xdeadbeef'"],
            Mood => &["'sad'", "'ok'", "'Happy'"],
            Level => &["0", "3", "-7", "999"],
            Address => &["'a@b.c'", "'É@b.c'", "'@'"],
            Inet => &[
                "'10.0.0.1'",
                "'10.0.0.0/8'",
                "'10.0.0.1/8'",
                "'::1'",
                "'2001:db8::/32'",
                "'255.255.255.255'",
            ],
            IntArray => &[
                "'{}'",
                "'{1,2,3}'",
                "'{NULL}'",
                "'{3,NULL}'",
                "'{{1,2},{3,4}}'",
                "'[0:1]={3,1}'",
                "'{-7}'",
            ],
            TextArray => &[
                "'{}'",
                "'{a,b}'",
                "'{NULL,\"null\"}'",
                "'{\"a\\\\\\\\b\",\"c,d\",\"\"}'",
                "'{é,pro}'",
                "'{{a},{b}}'",
            ],
            UuidArray => &[
                "'{}'",
                "'{a0000000-0000-4000-8000-000000000001}'",
                "'{NULL,b0000000-0000-4000-8000-000000000002}'",
            ],
            Like => &[
                "'a%'", "'%'", "''", "'_'", "'%b%'", "'A_C'", "'a\\%c'", "'%é'", "'%\\\\%'", "'abc'", "'a\\'",
            ],
            Regex => &[
                "'^a'",
                "'[a-c]+$'",
                "'^$'",
                "'\\d+'",
                "'.*'",
                "'(a|b)c?'",
                "'('",
                "'^.$'",
                "'a{2}'",
                "'é'",
            ],
            JsonKey => &["'k'", "'n'", "'team'", "'user'", "'b'", "'é'", "'missing'"],
            JsonPath => &["'{n,k}'", "'{k}'", "'{n,k,0}'", "'{0}'", "'{-1}'", "'{}'"],
            FieldName => &[
                "'year'", "'month'", "'day'", "'hour'", "'dow'", "'epoch'", "'isodow'", "'week'",
            ],
        }
    }
}
