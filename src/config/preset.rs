//! What is known of some frameworks: the names of their session cookies, their login and logout routes.
//!
//! A preset is a piece of `portcullis.toml` that is compiled in and read by the same reader.

use std::fmt;
use std::str::FromStr;

use crate::rules::diagnostic::nearest;

/// A framework that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preset {
    /// Django: its own authentication and admin.
    Django,
    /// Ruby on Rails: Devise, and the generator of Rails 8.
    Rails,
    /// Laravel: Breeze, Fortify, Jetstream.
    Laravel,
    /// Express: express-session and cookie-session.
    Express,
    /// Spring: Spring Security with servlet sessions or Spring Session.
    Spring,
    /// ASP.NET Core Identity, and ASP.NET before it.
    AspNet,
    /// Plain PHP sessions.
    Php,
    /// WordPress.
    WordPress,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Django,
        Self::Rails,
        Self::Laravel,
        Self::Express,
        Self::Spring,
        Self::AspNet,
        Self::Php,
        Self::WordPress,
    ];

    /// The name it goes by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Django => "django",
            Self::Rails => "rails",
            Self::Laravel => "laravel",
            Self::Express => "express",
            Self::Spring => "spring",
            Self::AspNet => "aspnet",
            Self::Php => "php",
            Self::WordPress => "wordpress",
        }
    }

    /// The piece of `portcullis.toml`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Django => include_str!("../../rules/presets/django.toml"),
            Self::Rails => include_str!("../../rules/presets/rails.toml"),
            Self::Laravel => include_str!("../../rules/presets/laravel.toml"),
            Self::Express => include_str!("../../rules/presets/express.toml"),
            Self::Spring => include_str!("../../rules/presets/spring.toml"),
            Self::AspNet => include_str!("../../rules/presets/aspnet.toml"),
            Self::Php => include_str!("../../rules/presets/php.toml"),
            Self::WordPress => include_str!("../../rules/presets/wordpress.toml"),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No preset has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset `{name}`; there are {}{}", known(), near(name))]
pub struct UnknownPreset {
    name: String,
}

fn known() -> String {
    Preset::ALL.map(Preset::as_str).join(", ")
}

fn near(name: &str) -> String {
    nearest(name, Preset::ALL.map(Preset::as_str)).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        let found = Self::ALL.into_iter().find(|preset| preset.as_str() == name);
        found.ok_or_else(|| UnknownPreset { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_found_by_its_name() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        let fault = "djnago".parse::<Preset>().unwrap_err().to_string();
        assert!(fault.contains("did you mean `django`?") && fault.contains("wordpress"), "{fault}");
    }
}
