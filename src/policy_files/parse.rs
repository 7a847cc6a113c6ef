//! One file's text to its policies, or to everything that is wrong with it.

use std::sync::Arc;

use sqlparser::ast::{
    CreatePolicy, CreatePolicyCommand, CreatePolicyType, Ident, ObjectName, ObjectNamePart, Owner,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{FilePolicy, Place, Problem};
use crate::change::TableName;
use crate::postgres::catalog;

const STATEMENT: &str =
    "CREATE POLICY name ON table [AS PERMISSIVE | RESTRICTIVE] [FOR SELECT] [TO role, …] USING (…);";

/// Reads the policies of a file, in their order. `file` is how places name it.
///
/// # Errors
/// Everything that is wrong, in the order of the lines.
pub fn parse(file: &Arc<str>, text: &str) -> Result<Vec<FilePolicy>, Vec<Problem>> {
    let mut tokens = Vec::new();
    let unreadable = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize_with_location_into_buf(&mut tokens)
        .err();
    let mut statements: Vec<&[TokenWithSpan]> =
        tokens.split(|token| token.token == Token::SemiColon).collect();
    if unreadable.is_some() {
        // What comes before the place may be only the beginning of a statement.
        statements.pop();
    }
    let source = Source {
        file,
        text,
        lines: line_starts(text),
    };
    let (mut policies, mut problems) = (Vec::new(), Vec::new());
    for statement in statements {
        match source.statement(statement) {
            Ok(policy) => policies.extend(policy),
            Err(found) => problems.extend(found),
        }
    }
    if let Some(error) = unreadable {
        let line = usize::try_from(error.location.line).unwrap_or(0);
        problems.push(Place::new(file, line).problem(error.message));
    }
    if problems.is_empty() {
        Ok(policies)
    } else {
        Err(problems)
    }
}

/// Byte offset at which each line starts.
fn line_starts(text: &str) -> Vec<usize> {
    let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(breaks).collect()
}

struct Source<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    lines: Vec<usize>,
}

impl Source<'_> {
    /// The policy that a statement makes; none for an empty one.
    fn statement(&self, tokens: &[TokenWithSpan]) -> Result<Option<FilePolicy>, Vec<Problem>> {
        let said: Vec<&TokenWithSpan> = tokens.iter().filter(|token| !is_space(token)).collect();
        let Some(first) = said.first() else {
            return Ok(None);
        };
        let place = self.place(first.span.start);
        let last = said.last().map_or(first.span.start, |token| token.span.start);
        let dialect = PostgreSqlDialect {};
        let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens.to_vec());
        if !parser.parse_keywords(&[Keyword::CREATE, Keyword::POLICY]) {
            let what = format!(
                "a policy file holds only statements {STATEMENT} This one begins with {}",
                first.token
            );
            return Err(vec![place.problem(what)]);
        }
        let parsed = parser.parse_create_policy();
        let policy = parsed.map_err(|error| vec![self.syntax(error, last)])?;
        let rest = parser.next_token();
        if rest.token != Token::EOF {
            let what = format!(
                "unexpected {} behind the policy; statements end with a semicolon",
                rest.token
            );
            return Err(vec![self.place(rest.span.start).problem(what)]);
        }
        let using = self.using(&said).unwrap_or(Using {
            text: "",
            place: place.clone(),
        });
        policy_of(policy, using, &place).map(Some)
    }

    /// The parser puts the place behind its words.
    fn syntax(&self, error: ParserError, last: Location) -> Problem {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
            ParserError::RecursionLimitExceeded => "the expression is nested too deeply".to_owned(),
        };
        let last = self.place(last);
        let Some((what, at)) = text.rsplit_once(" at Line: ") else {
            return last.problem(text.replace("found: EOF", "found the end of the statement"));
        };
        let line = at.split(',').next().and_then(|line| line.trim().parse().ok());
        Place::new(self.file, line.unwrap_or(last.line)).problem(what)
    }

    /// What is between the parentheses behind USING, as it is written. Begins and ends with a word of the expression, so
    /// that no comment is left open at its end.
    fn using(&self, said: &[&TokenWithSpan]) -> Option<Using<'_>> {
        let is_using = |token: &TokenWithSpan| matches!(&token.token, Token::Word(word) if word.keyword == Keyword::USING && word.quote_style.is_none());
        let open = said.windows(2).position(
            |pair| matches!(pair, [using, next] if is_using(using) && next.token == Token::LParen),
        )? + 1;
        let mut depth = 0usize;
        let close = said.iter().enumerate().skip(open).find_map(|(i, token)| {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(i)
        })?;
        let inside = said.get(open + 1..close)?;
        let start = self.offset(inside.first()?.span.start)?;
        let end = self.offset(inside.last()?.span.end)?;
        Some(Using {
            text: self.text.get(start..end)?,
            place: self.place(inside.first()?.span.start),
        })
    }

    fn place(&self, at: Location) -> Place {
        Place::new(self.file, usize::try_from(at.line).unwrap_or(0))
    }

    /// Columns count characters.
    fn offset(&self, at: Location) -> Option<usize> {
        let line = *self.lines.get(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let rest = self.text.get(line..)?;
        let within = rest
            .char_indices()
            .map(|(at, _)| at)
            .chain(std::iter::once(rest.len()))
            .nth(column)?;
        Some(line + within)
    }
}

/// An expression and where it begins.
struct Using<'a> {
    text: &'a str,
    place: Place,
}

fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

fn policy_of(policy: CreatePolicy, using: Using<'_>, place: &Place) -> Result<FilePolicy, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut wrong = |what: String| problems.push(place.problem(what));
    let name = fold(&policy.name);
    if !matches!(policy.command, None | Some(CreatePolicyCommand::Select)) {
        wrong(format!(
            "policy {name} is not FOR SELECT; subscriptions only read, so that is all a policy file can say"
        ));
    }
    if policy.with_check.is_some() {
        wrong(format!(
            "policy {name} has WITH CHECK, which is about writing; a policy file can only say USING"
        ));
    }
    if policy.using.is_none() {
        wrong(format!("policy {name} has no USING (…)"));
    } else if using.text.is_empty() {
        wrong(format!("the expression of policy {name} cannot be found"));
    }
    let table = table(&policy.table_name).map_err(&mut wrong).ok();
    let roles: Result<Vec<String>, ()> = match &policy.to {
        None => Ok(vec!["public".to_owned()]),
        Some(owners) => owners
            .iter()
            .map(|owner| role(owner).map_err(&mut wrong))
            .collect(),
    };
    match (table, roles) {
        (Some(table), Ok(roles)) if problems.is_empty() => Ok(FilePolicy {
            policy: catalog::FilePolicy {
                table,
                name,
                permissive: policy.policy_type != Some(CreatePolicyType::Restrictive),
                roles,
                using: using.text.to_owned(),
            },
            place: place.clone(),
            expression: using.place,
        }),
        _ => Err(problems),
    }
}

fn table(name: &ObjectName) -> Result<TableName, String> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(fold(ident)),
            ObjectNamePart::Function(_) => None,
        })
        .collect();
    match parts.as_deref() {
        Some([table]) => Ok(TableName::new("public", table)),
        Some([schema, table]) => Ok(TableName::new(schema, table)),
        _ => Err(format!("{name} is no table; write table or schema.table")),
    }
}

/// The statements of a setup, one by one. Only those that change or read rows: the transaction they run in must be undone
/// afterwards, whatever they are.
///
/// # Errors
/// What is wrong with them.
pub(super) fn setup(text: &str) -> Result<Vec<String>, String> {
    const KNOWN: [Keyword; 5] = [
        Keyword::INSERT,
        Keyword::UPDATE,
        Keyword::DELETE,
        Keyword::SELECT,
        Keyword::WITH,
    ];
    let file = Arc::from("setup");
    let source = Source {
        file: &file,
        text,
        lines: line_starts(text),
    };
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text)
        .tokenize_with_location()
        .map_err(|error| format!("setup: {error}"))?;
    let mut statements = Vec::new();
    for tokens in tokens.split(|token| token.token == Token::SemiColon) {
        let mut said = tokens.iter().filter(|token| !is_space(token));
        let Some(first) = said.next() else {
            continue;
        };
        let known = matches!(&first.token, Token::Word(word) if KNOWN.contains(&word.keyword));
        let last = said.next_back().unwrap_or(first);
        let range = source.offset(first.span.start).zip(source.offset(last.span.end));
        let statement = range.and_then(|(start, end)| text.get(start..end));
        match statement {
            Some(statement) if known => statements.push(statement.to_owned()),
            _ => {
                return Err(format!(
                    "setup may only INSERT, UPDATE, DELETE and SELECT, but has {}",
                    first.token
                ));
            }
        }
    }
    Ok(statements)
}

/// A table as SQL names it, `public` where no schema is said.
///
/// # Errors
/// What is wrong with the name.
pub fn table_name(text: &str) -> Result<TableName, String> {
    let no_table = || format!("{text} is no table; write table or schema.table");
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).try_with_sql(text).map_err(|_| no_table())?;
    let name = parser.parse_object_name(false).map_err(|_| no_table())?;
    match parser.next_token().token {
        Token::EOF => table(&name),
        _ => Err(no_table()),
    }
}

fn role(owner: &Owner) -> Result<String, String> {
    match owner {
        Owner::Ident(ident) => Ok(fold(ident)),
        Owner::CurrentRole | Owner::CurrentUser | Owner::SessionUser => Err(format!(
            "TO {owner} would be Rowcast itself; name the role that tokens carry"
        )),
    }
}

/// The name as the catalog spells it.
fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<FilePolicy>, Vec<String>> {
        parse(&Arc::from("p/t.sql"), text)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn statements_are_read_in_full() {
        let policies = read(
            "-- who sees todos\n\
             create policy own on todos using (owner = auth.uid());\n\
             /* two\n lines */ CREATE POLICY \"Only Mine\" ON \"App\".\"To dos\" AS RESTRICTIVE FOR SELECT\n\
             TO Authenticated, \"Anon\" USING (  (a = 'x;)') -- (why\n and b = $$;$$ ) ;;",
        )
        .unwrap();
        let [own, only] = policies.as_slice() else {
            panic!("{policies:?}")
        };
        assert_eq!(own.policy.table, TableName::new("public", "todos"));
        assert_eq!(own.policy.name, "own");
        assert!(own.policy.permissive);
        assert_eq!(own.policy.roles, ["public"]);
        assert_eq!(own.policy.using, "owner = auth.uid()");
        assert_eq!(own.place.to_string(), "p/t.sql:2");
        assert_eq!(only.policy.table, TableName::new("App", "To dos"));
        assert_eq!(only.policy.name, "Only Mine");
        assert!(!only.policy.permissive);
        assert_eq!(only.policy.roles, ["authenticated", "Anon"]);
        assert_eq!(only.policy.using, "(a = 'x;)') -- (why\n and b = $$;$$");
        assert_eq!(only.place.line, 4);
    }

    #[test]
    fn the_expression_is_the_text_of_the_file() {
        for using in [
            "true",
            "name = 'Zoë' and \"größe\" > 3",
            "id in (select 1)\n\t or  x @> '{\"a\": 1}'::jsonb",
            "note like E'a\\'b)%'",
            "exists (select 1 from members m where m.team = team and m.user_id = auth.uid())",
            "v = any (array['a', 'b']::text[])",
            "(data -> 'a' ->> 'b')::int = 3",
        ] {
            let text = format!("create policy é on t using (\n{using} -- end\n)");
            assert_eq!(read(&text).unwrap()[0].policy.using, using);
        }
        let crlf = read("create policy a\r\non t\r\nusing (a\r\n= 1);\r\ncreate policy b on t using (true);")
            .unwrap();
        assert_eq!(crlf[0].policy.using, "a\r\n= 1");
        assert_eq!(crlf[1].place.line, 5);
        assert_eq!(read(" -- nothing\n").unwrap(), []);
    }

    #[test]
    fn setups_are_statements_that_change_rows() {
        let text = " insert into t values ('a;b') ; -- more\nupdate t set a = 1;;with x as (select 1) select * from x";
        let expected = [
            "insert into t values ('a;b')",
            "update t set a = 1",
            "with x as (select 1) select * from x",
        ];
        assert_eq!(setup(text).unwrap(), expected);
        for text in [
            "commit",
            "select 1; rollback",
            "BEGIN",
            "(select 1)",
            "do $$ $$",
            "select 'x",
        ] {
            assert!(setup(text).is_err(), "{text}");
        }
    }

    #[test]
    fn everything_wrong_is_said_with_its_line() {
        let cases: &[(&str, &[&str])] = &[
            ("drop table t;", &["p/t.sql:1: a policy file holds only"]),
            (
                "alter policy a on t using (true)",
                &["p/t.sql:1: a policy file holds only"],
            ),
            (
                "create policy a on t for insert using (true);",
                &["1: policy a is not FOR SELECT"],
            ),
            (
                "create policy a on t for all using (true);",
                &["1: policy a is not FOR SELECT"],
            ),
            (
                "create policy a on t for update using (true) with check (true);",
                &["1: policy a is not FOR SELECT", "1: policy a has WITH CHECK"],
            ),
            ("\ncreate policy a on t;", &["2: policy a has no USING"]),
            ("create policy a on t using ();", &["1: "]),
            ("create policy a on t using (a = );", &["1: "]),
            (
                "create policy a on t using (true) to anon;",
                &["1: unexpected to"],
            ),
            (
                "create policy a on t\nusing (true)\ncreate policy b on t using (true);",
                &["3: unexpected create"],
            ),
            (
                "create policy a on t to current_user using (true);",
                &["1: TO CURRENT_USER"],
            ),
            (
                "create policy a on x.y.t using (true);",
                &["1: x.y.t is no table"],
            ),
            ("create policy a on t using (true", &["1: Expected: )"]),
            (
                "create policy a on t using (b = 'x);\n",
                &["1: Unterminated string literal"],
            ),
            (
                "drop table a;\ncreate policy b on t using (true);\ncreate policy c on;\nselect 'x",
                &["p/t.sql:1: ", "p/t.sql:3: ", "p/t.sql:4: "],
            ),
        ];
        for (text, expected) in cases {
            let problems = read(text).expect_err(text);
            assert_eq!(problems.len(), expected.len(), "{text}: {problems:?}");
            for (problem, expected) in problems.iter().zip(*expected) {
                assert!(problem.contains(expected), "{text}: {problem} lacks {expected}");
            }
        }
    }
}
