//! How bad an event is, and what that is called elsewhere.
//!
//! The maps are those of the OWASP logging vocabulary, syslog (RFC 5424), OpenTelemetry, OCSF, CEF and ECS; they stand in
//! one place so that two encoders never disagree.

use std::fmt;
use std::str::FromStr;

/// How bad an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Part of ordinary life.
    #[default]
    Info,
    /// Ordinary, but worth a look when something else is wrong.
    Notice,
    /// Not ordinary; one alone may be harmless.
    Warn,
    /// An attack, or what cannot be told from one.
    Critical,
}

impl Severity {
    /// All of them, mildest first.
    pub const ALL: [Self; 4] = [Self::Info, Self::Notice, Self::Warn, Self::Critical];

    /// The word in our own formats.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warn => "warn",
            Self::Critical => "critical",
        }
    }

    /// The level of the OWASP logging vocabulary, which knows no notice.
    pub const fn vocabulary(self) -> &'static str {
        match self {
            Self::Info | Self::Notice => "INFO",
            Self::Warn => "WARN",
            Self::Critical => "CRITICAL",
        }
    }

    /// The level of a `tracing` bridge, which knows no critical.
    pub const fn tracing(self) -> tracing::Level {
        match self {
            Self::Info | Self::Notice => tracing::Level::INFO,
            Self::Warn => tracing::Level::WARN,
            Self::Critical => tracing::Level::ERROR,
        }
    }

    /// The severity of syslog (RFC 5424, table 2).
    pub const fn syslog(self) -> u8 {
        match self {
            Self::Info => 6,
            Self::Notice => 5,
            Self::Warn => 4,
            Self::Critical => 2,
        }
    }

    /// The `SeverityNumber` of OpenTelemetry.
    pub const fn otel(self) -> u8 {
        match self {
            Self::Info => 9,
            Self::Notice => 10,
            Self::Warn => 13,
            Self::Critical => 18,
        }
    }

    /// The `severity_id` of OCSF.
    pub const fn ocsf(self) -> u8 {
        match self {
            Self::Info => 1,
            Self::Notice => 2,
            Self::Warn => 3,
            Self::Critical => 5,
        }
    }

    /// The severity of CEF, 0 to 10.
    pub const fn cef(self) -> u8 {
        match self {
            Self::Info => 3,
            Self::Notice => 4,
            Self::Warn => 6,
            Self::Critical => 9,
        }
    }

    /// The `log.level` of ECS.
    pub const fn ecs(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warn => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word names no severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a severity (info, notice, warn or critical; high is the same as warn)")]
pub struct UnknownSeverity;

/// Reads the words of [`Severity::as_str`], and `high`: the name of the lane that begins with `warn`.
impl FromStr for Severity {
    type Err = UnknownSeverity;

    fn from_str(word: &str) -> Result<Self, UnknownSeverity> {
        if word == "high" {
            return Ok(Self::Warn);
        }
        Self::ALL.into_iter().find(|severity| severity.as_str() == word).ok_or(UnknownSeverity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_map_is_the_one_of_the_standards() {
        // vocabulary, tracing, syslog, OpenTelemetry, OCSF, CEF, ECS
        let rows = Severity::ALL.map(|s| {
            format!(
                "{s} {} {} {} {} {} {} {}",
                s.vocabulary(),
                s.tracing(),
                s.syslog(),
                s.otel(),
                s.ocsf(),
                s.cef(),
                s.ecs()
            )
        });
        assert_eq!(
            rows,
            [
                "info INFO INFO 6 9 1 3 info",
                "notice INFO INFO 5 10 2 4 notice",
                "warn WARN WARN 4 13 3 6 warning",
                "critical CRITICAL ERROR 2 18 5 9 critical",
            ]
        );
        assert!(Severity::ALL.is_sorted());
    }

    #[test]
    fn words_are_read_back() {
        for severity in Severity::ALL {
            assert_eq!(severity.as_str().parse(), Ok(severity));
        }
        assert_eq!("high".parse(), Ok(Severity::Warn));
        assert_eq!("WARN".parse::<Severity>(), Err(UnknownSeverity));
    }
}
