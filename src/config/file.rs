//! Settings from a TOML file: which file, and what may stand in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::env::{Env, place_of};
use super::error::{ConfigError, on_one_line, redacted, shortened};
use super::name::Name;
use super::row::{accepted, row};
use super::secret_file::{Access, access};
use super::spelling::nearest;
use super::value::{Given, Origin, Raw, Set};

/// The largest file that is read, in bytes. A long one has less than 2 KiB.
pub const MAX_CONFIG_FILE_BYTES: usize = 64 * 1024;

const VARIABLE: &str = "CACHE_CONFIG";
/// The longest unknown key that an error repeats. A secret in its place is longer.
const MAX_SHOWN_KEY: usize = 32;

/// What code says about the file.
#[derive(Clone, Default)]
pub(super) enum Choice {
    /// The environment says which.
    #[default]
    Unsaid,
    None,
    Path(PathBuf),
    /// The text itself, and what to call it.
    Text(String, String),
}

/// The settings of one file.
pub(super) struct File {
    /// Which one was read, if any.
    pub(super) path: Set<Option<String>>,
    values: BTreeMap<Name, (Given, usize)>,
    /// Why a file at the usual place was passed over, or who else can read the secret in one.
    pub(super) warning: Option<String>,
}

impl File {
    fn none(origin: Origin) -> Self {
        Self { path: Set { value: None, origin }, values: BTreeMap::new(), warning: None }
    }

    /// Reads the file that code or `CACHE_CONFIG` names, else the one at the usual place for
    /// configuration if there is one. Never one in the working directory: that may be the checkout
    /// of somebody who must not be able to say where the cache is.
    pub(super) fn find(choice: &Choice, env: &Env<'_>) -> Result<Self, ConfigError> {
        match choice {
            Choice::None => return Ok(Self::none(Origin::Code)),
            Choice::Text(name, text) => return Self::parse(name, text, None, Origin::Code),
            Choice::Path(path) => {
                let missing = |error| named_but_unread(&shown(path), &error);
                return Self::read(path, Origin::Code, missing);
            }
            Choice::Unsaid => {}
        }
        if let Some((variable, value)) = env.get(&[VARIABLE]) {
            let origin = Origin::Environment { variable };
            if value == "none" {
                return Ok(Self::none(origin));
            }
            let place = format!("{VARIABLE}={:?}", shortened(&redacted(&value)));
            if value.starts_with(['"', '\'', '$']) {
                let problem = "the value begins with a quotation mark or a placeholder";
                return Err(ConfigError::at(VARIABLE, place, problem, "give the path alone, or `none`"));
            }
            let missing = |error| named_but_unread(&place, &error);
            return Self::read(&env.expand(Path::new(&value)), origin, missing);
        }
        let Some(dir) = place_of("XDG_CONFIG_HOME", ".config", env) else {
            return Ok(Self::none(Origin::Default));
        };
        let path = dir.join("peercache/config.toml");
        match Self::open(&path) {
            Ok((text, access)) => Self::parse(&shown(&path), &text, Some(access), Origin::Default),
            Err(Unread::Absent(_)) => Ok(Self::none(Origin::Default)),
            // Containers often run as a user who may not look into HOME.
            Err(Unread::Io(error)) => Ok(Self {
                warning: Some(format!("{} is not used: {error}", shown(&path))),
                ..Self::none(Origin::Default)
            }),
            Err(Unread::Unfit(problem, remedy)) => {
                Err(ConfigError::at(VARIABLE, shown(&path), problem, remedy))
            }
        }
    }

    pub(super) fn get(&self, name: Name) -> Option<(Given, Origin)> {
        let (given, line) = self.values.get(&name)?;
        let path = self.path.value.clone()?;
        Some((given.clone(), Origin::File { path, line: *line }))
    }

    fn read(
        path: &Path,
        origin: Origin,
        unread: impl FnOnce(io::Error) -> ConfigError,
    ) -> Result<Self, ConfigError> {
        match Self::open(path) {
            Ok((text, access)) => Self::parse(&shown(path), &text, Some(access), origin),
            Err(Unread::Absent(error) | Unread::Io(error)) => Err(unread(error)),
            Err(Unread::Unfit(problem, remedy)) => {
                Err(ConfigError::at(VARIABLE, shown(path), problem, remedy))
            }
        }
    }

    /// The text, and who can do what with the file.
    fn open(path: &Path) -> Result<(String, Access), Unread> {
        // Before it is opened: opening a pipe waits for a writer.
        if !fs::metadata(path)?.is_file() {
            return Err(Unread::Unfit("this is not a regular file", "name a TOML file"));
        }
        let file = fs::File::open(path)?;
        let access = access(path, &file.metadata()?);
        let mut bytes = Vec::new();
        file.take(MAX_CONFIG_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_CONFIG_FILE_BYTES {
            return Err(Unread::Unfit(
                "the file is larger than 65536 bytes, the most that is read",
                "is this the right file? Settings take a few lines",
            ));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Unread::Unfit("the file is not UTF-8", "write it as UTF-8 text"))?;
        Ok((text, access))
    }

    fn parse(path: &str, text: &str, access: Option<Access>, origin: Origin) -> Result<Self, ConfigError> {
        let mistake = |place: usize, problem: String, remedy: String| {
            ConfigError::at(VARIABLE, format!("{path}:{}", line_of(text, place)), problem, remedy)
        };
        let table = DeTable::parse(text).map_err(|error| {
            // Not its `Display`: that shows the line, which may hold the secret.
            let place = error.span().map_or(0, |span| span.start);
            let problem = format!("this is not TOML: {}", error.message().replace('\n', ", "));
            mistake(place, problem, "write one `key = value` on each line".to_owned())
        })?;
        let mut values = BTreeMap::new();
        for (key, value) in table.get_ref() {
            let (place, line) = (key.span().start, line_of(text, key.span().start));
            let Some(name) = Name::from_key(key.get_ref()) else {
                let problem = match is_showable(key.get_ref()) {
                    true => format!("there is no setting `{}`", key.get_ref()),
                    false => "this key is no setting".to_owned(),
                };
                let remedy = match nearest(key.get_ref(), Name::ALL.iter().map(|name| name.key())) {
                    Some(near) => format!("did you mean `{near}`? `peercache config` lists every key"),
                    None => "`peercache config` lists every key".to_owned(),
                };
                return Err(mistake(place, problem, remedy));
            };
            let origin = Origin::File { path: path.to_owned(), line };
            values.insert(name, (given(name, value.get_ref(), &origin)?, line));
        }
        let mut warning = None;
        let secret = values.iter().find(|(name, _)| name.is_secret());
        if let (Some((name, (_, line))), Some(access)) = (secret, access) {
            let place = format!("{path}:{line}: {}", name.key());
            let chmod = format!("chmod 600 {}", quoted(Path::new(path)));
            match access {
                Access::Private => {}
                Access::Read => {
                    warning =
                        Some(format!("{place}: other users of this machine can read this file; {chmod}"));
                }
                Access::Write(how) => {
                    return Err(ConfigError::at(
                        name.variables()[0],
                        place,
                        format!("other users can write this file ({how}), so they can choose the secret"),
                        format!(
                            "{chmod}, and if they are not trusted make a new one with `peercache keygen`"
                        ),
                    ));
                }
            }
        }
        Ok(Self { path: Set { value: Some(path.to_owned()), origin }, values, warning })
    }
}

/// Why a file was not read.
enum Unread {
    /// There is none.
    Absent(io::Error),
    Io(io::Error),
    /// What is wrong with it, and what to do.
    Unfit(&'static str, &'static str),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent(error),
            _ => Self::Io(error),
        }
    }
}

fn named_but_unread(place: &str, error: &io::Error) -> ConfigError {
    let problem = format!("the file cannot be read: {error}");
    ConfigError::at(VARIABLE, place, problem, "name a TOML file that this user can read, or `none`")
}

/// The value of `name`, if it is of a type that `name` takes.
fn given(name: Name, value: &DeValue<'_>, origin: &Origin) -> Result<Given, ConfigError> {
    let wrong = |shown: String, problem: String| {
        let raw = Raw { name, given: Given::Number(shown), origin: origin.clone() };
        ConfigError::of(&raw, problem, accepted(name))
    };
    match value {
        DeValue::String(text) => Ok(Given::Text(text.trim().to_owned())),
        DeValue::Integer(number) if row(name).kind.takes_number() => {
            // Also 0x10 and 1_000; what does not fit is judged as it stands.
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            Ok(Given::Number(decimal.map_or_else(|_| number.to_string(), |decimal| decimal.to_string())))
        }
        DeValue::Boolean(truth) if row(name).kind.takes_truth() => Ok(Given::Text(truth.to_string())),
        DeValue::Array(values) if row(name).kind.takes_list() => {
            let texts = values.iter().map(|value| match value.get_ref() {
                DeValue::String(text) => Ok(text.trim().to_owned()),
                _ => Err(wrong("[…]".to_owned(), "this is a list of something else than texts".to_owned())),
            });
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            if texts.is_empty() {
                return Err(wrong("[]".to_owned(), "the list is empty".to_owned()));
            }
            Ok(Given::List(texts))
        }
        DeValue::Integer(number) => Err(wrong(number.to_string(), "this is a number".to_owned())),
        DeValue::Float(number) => {
            Err(wrong(number.as_str().to_owned(), "this is a number with a fraction".to_owned()))
        }
        DeValue::Boolean(truth) => Err(wrong(truth.to_string(), "this is a truth value".to_owned())),
        DeValue::Datetime(time) => Err(wrong(time.to_string(), "this is a date or time".to_owned())),
        DeValue::Array(_) => Err(wrong("[…]".to_owned(), "this is a list".to_owned())),
        DeValue::Table(_) => Err(wrong("{…}".to_owned(), "this is a table".to_owned())),
    }
}

/// The line of a byte, counted from 1.
fn line_of(text: &str, place: usize) -> usize {
    1 + text.bytes().take(place).filter(|byte| *byte == b'\n').count()
}

/// Whether an error may repeat this key: not if it could be a value in the wrong place.
fn is_showable(key: &str) -> bool {
    key.len() <= MAX_SHOWN_KEY && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

/// A path on one line.
fn shown(path: &Path) -> String {
    on_one_line(&path.display().to_string())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}
