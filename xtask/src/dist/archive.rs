//! The archive for everybody: unpacked below a prefix such as `/usr/local`, it is installed.

use std::sync::Arc;

use flate2::Compression;

use super::documents::Documents;
use super::files::Files;
use super::program::{Program, VERSION};
use super::tar::tar_gz;
use crate::failure::Failure;

/// The archive's file name and its bytes.
pub(crate) fn archive(
    program: &Program,
    documents: &Documents,
    level: Compression,
) -> Result<(String, Vec<u8>), Failure> {
    let name = format!("peercache-{VERSION}-{}", program.platform());
    Ok((format!("{name}.tar.gz"), tar_gz(&content(&name, program, documents), level)?))
}

fn content(folder: &str, program: &Program, documents: &Documents) -> Files {
    let mut files = Files::default();
    files.add_program(format!("{folder}/bin/peercache"), Arc::clone(&program.bytes));
    documents.add_shared(&mut files, &format!("{folder}/"));
    let about = format!("{folder}/share/doc/peercache");
    files.add(format!("{about}/README.md"), Arc::clone(&documents.readme));
    files.add(format!("{about}/sbom.cdx.json"), Arc::clone(&program.sbom));
    for (name, text) in &documents.licences {
        files.add(format!("{about}/{name}"), Arc::clone(text));
    }
    files
}
