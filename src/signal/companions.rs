//! Companion clients: programs of one app that share a session, such as the native part of an app for telephones and the browser
//! inside it. To every detector they look like a theft.

use std::fmt;
use std::str::FromStr;

use crate::facts::user_agent::Family;

/// Two programs that share sessions, on one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Companions(Family, Family);

impl Companions {
    /// Whether these are the two.
    pub fn are(self, one: Family, other: Family) -> bool {
        (self.0 == one && self.1 == other) || (self.0 == other && self.1 == one)
    }
}

/// `"okhttp + webview"`
impl fmt::Display for Companions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {}", self.0.name(), self.1.name())
    }
}

/// A text names no two programs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompanionsError {
    /// It has another form.
    #[error("expected two programs with a plus between them, such as \"okhttp + webview\"")]
    Form,
    /// There is no such program.
    #[error("there is no program \"{0}\"; `portcullis fields` lists them under `client.ua_family`")]
    Unknown(Box<str>),
    /// Both are one.
    #[error("a program needs no companion that is itself")]
    Same,
}

impl FromStr for Companions {
    type Err = CompanionsError;

    fn from_str(text: &str) -> Result<Self, CompanionsError> {
        let family = |name: &str| Family::named(name).ok_or_else(|| CompanionsError::Unknown(name.into()));
        let (one, other) = text.split_once('+').ok_or(CompanionsError::Form)?;
        let (one, other) = (family(one.trim())?, family(other.trim())?);
        if one == other { Err(CompanionsError::Same) } else { Ok(Self(one, other)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_programs_in_either_order() {
        let both: Companions = "okhttp + webview".parse().unwrap();
        assert!(both.are(Family::OkHttp, Family::WebView) && both.are(Family::WebView, Family::OkHttp));
        assert!(!both.are(Family::OkHttp, Family::OkHttp) && !both.are(Family::OkHttp, Family::Curl));
        assert_eq!(both.to_string().parse(), Ok(both));
        let wrong = |text: &str| text.parse::<Companions>().unwrap_err().to_string();
        assert!(wrong("okhttp").contains("a plus between them"));
        assert!(wrong("okhttp + webvew").contains("\"webvew\""));
        assert!(wrong("other + okhttp").contains("\"other\""));
        assert!(wrong("okhttp + okhttp").contains("itself"));
    }
}
