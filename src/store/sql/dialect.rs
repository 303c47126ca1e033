//! What the three databases say differently.
//!
//! A statement is written once, as a template: `?` stands for a value, `{t}` for the table of sessions and the beginning
//! of the names of the others, `{lock}` and `{skip}` for what locks the rows that are read, `{int}` and `{bytes}` for types, `{now}` for
//! the time of the database in milliseconds.

use super::OpenError;

/// Longest name of a table, so that the names made of it fit into the 63 bytes of PostgreSQL.
const NAME_BYTES_MAX: usize = 40;

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    /// MariaDB too.
    MySql,
    Sqlite,
}

impl Kind {
    /// The database of a URL, by its scheme.
    pub(super) fn of_url(url: &str) -> Result<Self, OpenError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            Some("mysql" | "mariadb") => Ok(Self::MySql),
            Some("sqlite") => Ok(Self::Sqlite),
            // The URL itself is not told: it may hold a password.
            _ => Err(OpenError::Scheme),
        }
    }

    /// How a change begins. Every statement sees what was committed before it; rows that must not change are locked.
    pub(super) const fn begin(self) -> &'static str {
        match self {
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
            // The connection was told its isolation when it was opened.
            Self::MySql => "START TRANSACTION",
            // The lock for writing is taken now: taking it later fails if somebody else wrote in between.
            Self::Sqlite => "BEGIN IMMEDIATE",
        }
    }
}

/// A database, and the names of the tables in it.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    kind: Kind,
    table: String,
}

impl Dialect {
    /// The name stands in statements as it is, so it is checked strictly.
    pub(super) fn try_new(kind: Kind, table: String) -> Result<Self, OpenError> {
        let is_small = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let is_name = table.bytes().all(|byte| is_small(byte) || byte.is_ascii_digit())
            && table.bytes().next().is_some_and(is_small)
            && table.len() <= NAME_BYTES_MAX;
        if is_name { Ok(Self { kind, table }) } else { Err(OpenError::Table(table)) }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The statement of a template.
    pub(super) fn text(&self, template: &str) -> String {
        let (lock, skip) = match self.kind {
            Kind::Postgres | Kind::MySql => (" FOR UPDATE", " FOR UPDATE SKIP LOCKED"),
            // Who changes something is alone there.
            Kind::Sqlite => ("", ""),
        };
        let int = if self.kind == Kind::MySql { "SIGNED" } else { "BIGINT" };
        let bytes = match self.kind {
            Kind::Postgres => "BYTEA",
            Kind::MySql => "BINARY",
            Kind::Sqlite => "BLOB",
        };
        let now = match self.kind {
            // Of the statement, and not of the beginning of the transaction.
            Kind::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
            Kind::MySql => "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
            Kind::Sqlite => "CAST((julianday('now') - 2440587.5) * 86400000 AS BIGINT)",
        };
        let text = template.replace("{t}", &self.table).replace("{lock}", lock).replace("{skip}", skip);
        let text = text.replace("{int}", int).replace("{bytes}", bytes).replace("{now}", now);
        if self.kind == Kind::Postgres { numbered(&text) } else { text }
    }
}

/// PostgreSQL numbers its values: `$1`, `$2`.
fn numbered(text: &str) -> String {
    let mut parts = text.split('?');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (nth, part) in (1..).zip(parts) {
        let nth: u32 = nth;
        out.push('$');
        out.push_str(&nth.to_string());
        out.push_str(part);
    }
    out
}

/// Places for so many values: `?, ?, ?`.
pub(super) fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(kind: Kind) -> Dialect {
        Dialect::try_new(kind, "guard".into()).unwrap()
    }

    #[test]
    fn a_template_becomes_a_statement_of_each_database() {
        let template = format!("SELECT a FROM {{t}}_x WHERE b = ? AND c IN ({}){{lock}}", places(2));
        assert_eq!(
            dialect(Kind::Postgres).text(&template),
            "SELECT a FROM guard_x WHERE b = $1 AND c IN ($2, $3) FOR UPDATE"
        );
        assert_eq!(
            dialect(Kind::MySql).text(&template),
            "SELECT a FROM guard_x WHERE b = ? AND c IN (?, ?) FOR UPDATE"
        );
        assert_eq!(dialect(Kind::Sqlite).text(&template), "SELECT a FROM guard_x WHERE b = ? AND c IN (?, ?)");
    }

    #[test]
    fn a_name_of_a_table_is_nothing_but_a_name() {
        for name in ["portcullis_sessions", "_a", "a1"] {
            assert!(Dialect::try_new(Kind::Sqlite, name.into()).is_ok());
        }
        for name in ["", "1a", "a b", "a;drop", "A", "a\"", "a.b", "ä", &"a".repeat(41)] {
            assert!(matches!(Dialect::try_new(Kind::Sqlite, name.into()), Err(OpenError::Table(_))), "{name}");
        }
    }

    #[test]
    fn the_scheme_names_the_database() {
        assert_eq!(Kind::of_url("postgres://h/d").unwrap(), Kind::Postgres);
        assert_eq!(Kind::of_url("mariadb://h/d").unwrap(), Kind::MySql);
        assert_eq!(Kind::of_url("sqlite:///tmp/a").unwrap(), Kind::Sqlite);
        for url in ["", "redis://u:hunter2@h", "hunter2"] {
            let refused = Kind::of_url(url).unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
    }
}
