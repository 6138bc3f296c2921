//! `peercache ca`: the certificate authority of this machine's forward proxy.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use peercache::Config;
use peercache_github::CertificateAuthority;
use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Args, Debug)]
pub(crate) struct CaArgs {
    /// Where it is kept [default: `ca` in CACHE_DIR]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// A host or address that it may vouch for, beside api.github.com and this machine; repeatable
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,

    /// Days for which a new one is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,

    /// Replace the one that is there; clients have to trust the new one
    #[arg(long)]
    renew: bool,
}

/// Makes the authority, or shows the one that is there.
pub(crate) async fn run(args: CaArgs, json: bool) -> Result<Exit, Failure> {
    let config = Config::from_env("peercache")?;
    let dir = dir_of(args.dir, config.dir())?;
    let authority = match load(&dir)? {
        Some(authority) if !args.renew => {
            let missing: Vec<&str> = args
                .name
                .iter()
                .map(String::as_str)
                .filter(|name| !authority.names().iter().any(|own| own.eq_ignore_ascii_case(name)))
                .collect();
            if !missing.is_empty() {
                return Err(Failure::config(format!(
                    "the authority in {} does not vouch for {}; make a new one with --renew",
                    dir.display(),
                    missing.join(", ")
                )));
            }
            authority
        }
        _ => {
            let valid = Duration::from_secs(u64::from(args.days) * 24 * 3600);
            let authority = CertificateAuthority::generate(&args.name, valid).map_err(Failure::config)?;
            save(&dir, &authority)?;
            authority
        }
    };
    let certificate = dir.join(CERTIFICATE);
    let days = authority.remaining().as_secs() / DAY.as_secs();
    if json {
        output::json(&json!({
            "certificate": certificate,
            "key": dir.join(KEY),
            "names": authority.names(),
            "valid_days": days,
        }))?;
        return Ok(Exit::Ok);
    }
    output::line(format_args!("certificate: {}", certificate.display()))?;
    output::line(format_args!("key:         {} (keep it on this machine)", dir.join(KEY).display()))?;
    output::line(format_args!("vouches for: {}, and for nothing else", authority.names().join(", ")))?;
    output::line(format_args!("valid for:   {days} days"))?;
    output::line(format_args!(
        "clients trust it with NODE_EXTRA_CA_CERTS, SSL_CERT_FILE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE; \
         `peercache exec` sets these"
    ))?;
    Ok(Exit::Ok)
}

/// The directory that is named, or the usual one.
pub(crate) fn dir_of(named: Option<PathBuf>, cache: Option<&Path>) -> Result<PathBuf, Failure> {
    named.or_else(|| cache.map(|cache| cache.join("ca"))).ok_or_else(|| {
        Failure::config("there is no CACHE_DIR to keep a certificate authority in; name a folder with --dir")
    })
}

/// The authority in `dir`, if there is one.
pub(crate) fn load(dir: &Path) -> Result<Option<CertificateAuthority>, Failure> {
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    let read = |path: &Path| match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::config(format!("cannot read {}: {error}", path.display()))),
    };
    let (Some(certificate_pem), Some(key_pem)) = (read(&certificate)?, read(&key)?) else {
        return Ok(None);
    };
    let mode = File::open(&key)
        .and_then(|file| file.metadata())
        .map_err(|error| Failure::config(format!("cannot look at {}: {error}", key.display())))?
        .mode();
    if mode & 0o077 != 0 {
        return Err(Failure::config(format!(
            "{} can be read by others (mode {:03o}): whoever has it can pretend to be GitHub for clients that \
             trust it; make a new one with `peercache ca --renew`",
            key.display(),
            mode & 0o777
        )));
    }
    let authority = CertificateAuthority::from_pem(&certificate_pem, &key_pem)
        .map_err(|error| Failure::config(format!("{}: {error}", key.display())))?;
    Ok(Some(authority))
}

/// Writes both files, the key for this user only and complete or not at all.
fn save(dir: &Path, authority: &CertificateAuthority) -> Result<(), Failure> {
    let failed =
        |path: &Path, error: io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed(dir, error))?;
    // The key first: a certificate without its key is of no use, and is then taken for none.
    for (name, mode, text) in
        [(KEY, 0o600, authority.key_pem()), (CERTIFICATE, 0o644, authority.certificate_pem().to_owned())]
    {
        let path = dir.join(name);
        let draft = dir.join(format!("{name}.{}", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        })();
        if let Err(error) = written {
            // It may not have been made; the error that matters is this one.
            let _absent = fs::remove_file(&draft);
            return Err(failed(&path, error));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn authority_is_kept_for_this_user_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("ca");
        assert!(load(&dir).unwrap().is_none());
        let made = CertificateAuthority::generate(&[], 30 * DAY).unwrap();
        save(&dir, &made).unwrap();
        let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(KEY), mode(CERTIFICATE)), (0o600, 0o644));
        let read = load(&dir).unwrap().unwrap();
        assert_eq!(read.certificate_pem(), made.certificate_pem());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "no draft is left");
        fs::set_permissions(dir.join(KEY), fs::Permissions::from_mode(0o640)).unwrap();
        let error = format!("{:?}", load(&dir).unwrap_err());
        assert!(error.contains("can be read by others (mode 640)"), "{error}");
    }
}
