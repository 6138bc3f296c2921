//! The bill of materials of a binary: CycloneDX 1.5 as JSON.
//!
//! It lists the crates that are linked into the binary for its target, with the checksums of the
//! lock file, and which needs which. Neither time nor serial number is in it, so that the same
//! sources give the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::json::json_file;
use crate::failure::Failure;
use crate::run::{Run, checkout};

/// The package of the command.
const PACKAGE: &str = "peercache-cli";

/// A crate, by name and version.
type Id = (String, String);

/// What one crate is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Component {
    licence: String,
    needs: BTreeSet<Id>,
}

/// The crates of a binary, and the one that is the binary.
#[derive(Debug, PartialEq, Eq)]
struct Tree {
    root: Id,
    components: BTreeMap<Id, Component>,
}

/// The bill of the command built for `target`, whose binary has the digest `sha256`.
pub(crate) fn sbom(target: &str, sha256: &str) -> Result<Vec<u8>, Failure> {
    let printed = Run::cargo("run `cargo fetch --locked`, and look above for what cargo said")
        .args(["tree", "--locked", "--package", PACKAGE, "--target", target])
        // What is only needed to build is not in the binary.
        .args(["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "\t{p}\t{l}"])
        .read()?;
    let unexpected = || {
        Failure::new("the output of `cargo tree` is not as expected", "update xtask/src/dist/sbom.rs to it")
    };
    let tree = read_tree(&printed).ok_or_else(unexpected)?;
    let lock = checkout().join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", lock.display()), "restore it"))?;
    json_file(bill(&tree, &read_checksums(&lock), target, sha256))
}

/// Reads lines of depth, name, version and licence. A crate that was printed before is marked and
/// its own are not repeated. More than one tree is printed where features are unified.
fn read_tree(printed: &str) -> Option<Tree> {
    let mut all: BTreeMap<Id, Component> = BTreeMap::new();
    let mut above: Vec<Id> = Vec::new();
    for line in printed.lines().filter(|line| !line.is_empty()) {
        let mut fields = line.split('\t');
        let depth: usize = fields.next()?.parse().ok()?;
        let mut words = fields.next()?.split(' ');
        let id = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
        let licence = fields.next()?.trim_end_matches("(*)").trim();
        if depth > above.len() {
            return None;
        }
        above.truncate(depth);
        if let Some(parent) = above.last() {
            all.get_mut(parent)?.needs.insert(id.clone());
        }
        all.entry(id.clone()).or_default().licence = spdx(licence);
        above.push(id);
    }
    let root = all.keys().find(|(name, _)| name == PACKAGE)?.clone();
    let mut open = vec![root.clone()];
    let mut components = BTreeMap::new();
    while let Some(id) = open.pop() {
        if let Some(component) = all.remove(&id) {
            open.extend(component.needs.iter().cloned());
            components.insert(id, component);
        }
    }
    Some(Tree { root, components })
}

/// Older crates separate alternatives by a slash, which SPDX does not know.
fn spdx(licence: &str) -> String {
    licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

/// The checksums of a lock file. Crates of the workspace have none.
fn read_checksums(lock: &str) -> BTreeMap<Id, String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
        Some(line.strip_suffix('"')?.to_owned())
    };
    let read =
        |block: &str| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?));
    lock.split("[[package]]").filter_map(read).collect()
}

fn reference((name, version): &Id) -> String {
    // Build metadata begins with a plus sign, which a package URL writes encoded.
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

fn bill(tree: &Tree, checksums: &BTreeMap<Id, String>, target: &str, sha256: &str) -> Value {
    let component = |id: &Id, component: &Component| {
        let (name, version) = id;
        let mut object = json!({
            "type": "library",
            "bom-ref": reference(id),
            "purl": reference(id),
            "name": name,
            "version": version,
        });
        if !component.licence.is_empty() {
            object["licenses"] = json!([{ "expression": component.licence }]);
        }
        if let Some(checksum) = checksums.get(id) {
            object["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        object
    };
    let mut binary = Value::Null;
    let mut libraries = Vec::new();
    for (id, described) in &tree.components {
        if *id == tree.root {
            binary = component(id, described);
            binary["type"] = json!("application");
            binary["name"] = json!("peercache");
            binary["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
            binary["properties"] = json!([{ "name": "cargo:target", "value": target }]);
        } else {
            libraries.push(component(id, described));
        }
    }
    let needs = |(id, component): (&Id, &Component)| {
        json!({
            "ref": reference(id),
            "dependsOn": component.needs.iter().map(reference).collect::<Vec<_>>(),
        })
    };
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": binary },
        "components": libraries,
        "dependencies": tree.components.iter().map(needs).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "0\tother v1.0.0 (/x)\tMIT\n1\tshared v0.2.0\tMIT/Apache-2.0\n2\tdeep v3.0.0+x.1\tISC\n\n\
                           0\tpeercache-cli v0.1.0 (/x/y)\tMIT OR Apache-2.0\n1\tshared v0.2.0\tMIT/Apache-2.0 (*)\n\
                           1\tshared v0.1.0\tZlib\n";

    fn id(name: &str, version: &str) -> Id {
        (name.to_owned(), version.to_owned())
    }

    #[test]
    fn tree_is_what_the_command_reaches_also_where_it_was_printed_before() {
        let tree = read_tree(PRINTED).unwrap();
        assert_eq!(tree.root, id("peercache-cli", "0.1.0"));
        let names: Vec<_> = tree.components.keys().cloned().collect();
        assert_eq!(
            names,
            [
                id("deep", "3.0.0+x.1"),
                id("peercache-cli", "0.1.0"),
                id("shared", "0.1.0"),
                id("shared", "0.2.0")
            ]
        );
        assert_eq!(tree.components[&id("shared", "0.2.0")].licence, "MIT OR Apache-2.0");
        assert!(read_tree("not a tree").is_none() && read_tree("3\ta v1\tMIT").is_none());
    }

    #[test]
    fn bill_names_version_licence_checksum_and_needs() {
        let lock = "version = 4\n\n[[package]]\nname = \"deep\"\nversion = \"3.0.0+x.1\"\nsource = \"r\"\n\
                    checksum = \"abcd\"\ndependencies = [\n \"x\",\n]\n\n[[package]]\nname = \"peercache-cli\"\n\
                    version = \"0.1.0\"\n";
        let checksums = read_checksums(lock);
        assert_eq!(checksums.len(), 1);
        let bill = bill(&read_tree(PRINTED).unwrap(), &checksums, "x86_64-unknown-linux-gnu", "1234");
        let deep = &bill["components"][0];
        assert_eq!(deep["purl"], "pkg:cargo/deep@3.0.0%2Bx.1");
        assert_eq!(deep["licenses"][0]["expression"], "ISC");
        assert_eq!(deep["hashes"][0]["content"], "abcd");
        let binary = &bill["metadata"]["component"];
        assert_eq!((&binary["name"], &binary["hashes"][0]["content"]), (&json!("peercache"), &json!("1234")));
        let needs = bill["dependencies"].as_array().unwrap();
        let ours = needs.iter().find(|row| row["ref"] == "pkg:cargo/peercache-cli@0.1.0").unwrap();
        assert_eq!(ours["dependsOn"], json!(["pkg:cargo/shared@0.1.0", "pkg:cargo/shared@0.2.0"]));
    }
}
