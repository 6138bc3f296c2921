//! Every place that a setting may come from, and which one wins: code, environment, file, default.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use super::env::Env;
use super::error::ConfigError;
use super::file::File;
use super::kinds::{Kind as _, Path as PathKind};
use super::name::Name;
use super::row::file_of;
use super::value::{Given, Origin, Raw};
use super::{misplaced, secret_file};

pub(super) struct Sources<'a> {
    pub(super) code: &'a BTreeMap<Name, Given>,
    pub(super) env: &'a Env<'a>,
    pub(super) file: &'a File,
    /// What was noticed while values were read.
    pub(super) warnings: RefCell<Vec<String>>,
}

impl Sources<'_> {
    /// The value of `name` that counts. What is blank in the environment or the file is not given;
    /// in code it is. A value that another setting names a file for is read from there.
    pub(super) fn get(&self, name: Name) -> Result<Option<Raw>, ConfigError> {
        let own = self.given(name);
        let named = file_of(name).and_then(|file| self.given(file));
        let raw = match (own, named) {
            (Some(own), Some(named)) if rank(&own.origin) == rank(&named.origin) => {
                return Err(ConfigError::of(
                    &named,
                    format!("{} gives the same setting", own.called()),
                    "leave one of the two out",
                ));
            }
            (Some(own), named) if named.as_ref().is_none_or(|named| is_above(&own, named)) => own,
            (_, Some(named)) => self.contents(name, &named)?,
            (own, None) => match own {
                Some(own) => own,
                None => return Ok(None),
            },
        };
        misplaced::check(&raw)?;
        Ok(Some(raw))
    }

    /// Whether `name` is given somewhere, whatever its value is.
    pub(super) fn given(&self, name: Name) -> Option<Raw> {
        let code = || Some((self.code.get(&name)?.clone(), Origin::Code));
        let env = || {
            // A variable that other software reads too gives way to one that only this cache has.
            let (own, others): (Vec<_>, Vec<_>) =
                name.variables().iter().partition(|variable| variable.starts_with("CACHE_"));
            let (variable, value) = self.env.get(&[own, others].concat())?;
            Some((Given::Text(value), Origin::Environment { variable }))
        };
        let file = || self.file.get(name).filter(|(given, _)| !given.is_blank());
        let (given, origin) = code().or_else(env).or_else(file)?;
        Some(Raw { name, given, origin })
    }

    pub(super) fn warn(&self, warning: impl Into<String>) {
        self.warnings.borrow_mut().push(warning.into());
    }

    /// The value of `name`, from the file that `named` gives the path of.
    fn contents(&self, name: Name, named: &Raw) -> Result<Raw, ConfigError> {
        misplaced::check(named)?;
        let path = PathKind.parse(named, self.env)?;
        let (text, warning) =
            secret_file::read(&path).map_err(|unfit| ConfigError::of(named, unfit.problem, unfit.remedy))?;
        if let Some(warning) = warning {
            self.warn(format!("{}: {warning}", shown(&path)));
        }
        let origin = Origin::Contents { path: shown(&path), variable: named.name.variables()[0] };
        Ok(Raw { name, given: Given::Text(text), origin })
    }
}

fn shown(path: &Path) -> String {
    super::error::on_one_line(&path.display().to_string())
}

const fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Code => 0,
        Origin::Environment { .. } => 1,
        Origin::File { .. } | Origin::Contents { .. } => 2,
        Origin::Default => 3,
    }
}

fn is_above(one: &Raw, other: &Raw) -> bool {
    rank(&one.origin) < rank(&other.origin)
}
