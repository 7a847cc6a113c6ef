//! The shape of the table of settings.

use super::error::Problem;
use super::load::Values;

/// One setting: everything there is to say about it, except its value.
#[derive(Debug)]
pub struct Setting {
    /// Section in the file, `database`.
    pub section: &'static str,
    /// Name in the section, `pool_size`.
    pub name: &'static str,
    /// Key as messages name it, `database.pool_size`.
    pub key: &'static str,
    /// Value when nothing is given, as it would be written; empty for none.
    pub default: &'static str,
    /// What a bare number counts.
    pub unit: Unit,
    /// Variables of other servers that are read as well, after our own.
    pub aliases: &'static [&'static str],
    /// Meaning, one paragraph.
    pub doc: &'static str,
    /// What a value looks like.
    pub expected: &'static str,
    /// Whether the value must not be printed.
    pub secret: bool,
    pub(super) check: fn(&Values, &Setting) -> Result<(), Problem>,
}

/// What a bare number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nothing: a count or not a number.
    Plain,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// For people; empty for [`Unit::Plain`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

/// A group of settings.
#[derive(Debug)]
pub struct Section {
    /// Name in the file.
    pub name: &'static str,
    /// What its settings are about, one sentence.
    pub doc: &'static str,
}

impl Setting {
    /// The long flag without its dashes, `database-pool-size`.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// Our environment variable, `ROWCAST_DATABASE_POOL_SIZE`.
    pub fn variable(&self) -> String {
        format!("ROWCAST_{}", self.key.replace('.', "_").to_uppercase())
    }
}

/// Makes the structs and the table from one list.
macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident : $type:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident : $value:ty $([$unit:ident])? = $default:literal $(, env $alias:literal)* ;
            )+
        }
    )+) => {
        /// Every setting of a server, with its value.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( $(#[doc = $section_doc])+ pub $section: $type, )+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug)]
            pub struct $type {
                $( $(#[doc = $doc])+ pub $name: $value, )+
            }
        )+

        /// The groups of settings, in the order they are shown.
        pub const SECTIONS: &[Section] = &[
            $( Section { name: stringify!($section), doc: concat!($($section_doc),+) }, )+
        ];

        /// Every setting, in the order they are shown.
        pub const SETTINGS: &[Setting] = &[
            $( $( Setting {
                section: stringify!($section),
                name: stringify!($name),
                key: concat!(stringify!($section), ".", stringify!($name)),
                default: $default,
                unit: settings!(@unit $($unit)?),
                aliases: &[$($alias),*],
                doc: concat!($($doc),+),
                expected: <$value as FromText>::EXPECTED,
                secret: <$value as FromText>::SECRET,
                check: |values, setting| values.parse::<$value>(setting).map(drop),
            }, )+ )+
        ];

        impl Config {
            /// Fails with the first value that cannot be read.
            pub(super) fn from_values(values: &Values) -> Result<Self, Problem> {
                // The literals below come in the order of the table.
                let mut settings = SETTINGS.iter();
                Ok(Self {
                    $( $section: $type { $( $name: values.parse_next::<$value>(&mut settings)?, )+ }, )+
                })
            }
        }
    };
    (@unit) => { Unit::Plain };
    (@unit $unit:ident) => { Unit::$unit };
}
pub(super) use settings;
