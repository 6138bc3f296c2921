//! The requests of Kubo's RPC that the tier sends, as `ipfs-api-prelude` wants them described.
//!
//! That crate describes some of them itself, without the options that matter here (`parents`,
//! `force`, `offline`, `timeout`, `cid-codec`), so all are described in one place.

use ipfs_api_prelude::ApiRequest;
use serde::Serialize;

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident $path:literal { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })+) => {$(
        $(#[$doc])*
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub(super) struct $name<'a> {
            $($(#[$field_doc])* pub(super) $field: $kind,)*
            /// Keeps the lifetime used where no field borrows.
            #[serde(skip)]
            pub(super) marker: std::marker::PhantomData<&'a ()>,
        }
        impl ApiRequest for $name<'_> {
            const PATH: &'static str = $path;
        }
    )+};
}

requests! {
    /// Which Kubo it is.
    Version "/version" {}
    /// Its peer id and addresses.
    Identity "/id" {}
    /// Stores one block.
    BlockPut "/block/put" {
        cid_codec: &'a str,
        mhtype: &'a str,
        pin: bool,
    }
    /// Reads one block.
    BlockGet "/block/get" {
        arg: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        offline: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<String>,
    }
    /// Links what has a CID under a path that is free.
    FilesCp "/files/cp" {
        #[serde(rename = "arg")]
        from: &'a str,
        #[serde(rename = "arg")]
        to: &'a str,
        parents: bool,
        offline: bool,
        flush: bool,
    }
    /// Writes what was changed below a folder to the repository.
    FilesFlush "/files/flush" {
        arg: &'a str,
    }
    /// Lists a folder with the CID and size of each file.
    FilesLs "/files/ls" {
        arg: &'a str,
        long: bool,
        #[serde(rename = "U")]
        unsorted: bool,
    }
    /// Removes a file; with `force` also a folder and all that is in it.
    FilesRm "/files/rm" {
        arg: &'a str,
        force: bool,
    }
    /// Makes a folder and those above it.
    FilesMkdir "/files/mkdir" {
        arg: &'a str,
        parents: bool,
        cid_version: u8,
    }
    /// The CID and size of a folder.
    FilesStat "/files/stat" {
        arg: &'a str,
    }
    /// Lists a folder by its CID, from other nodes if need be.
    Ls "/ls" {
        arg: &'a str,
        resolve_type: bool,
        size: bool,
        timeout: String,
    }
    /// Drops blocks that nothing links and nothing pins.
    RepoGc "/repo/gc" {
        stream_errors: bool,
    }
    /// The size of the repository.
    RepoStat "/repo/stat" {
        size_only: bool,
    }
    /// Connects to another node.
    SwarmConnect "/swarm/connect" {
        arg: &'a str,
        timeout: String,
    }
    /// Publishes a message.
    PubsubPub "/pubsub/pub" {
        arg: &'a str,
    }
    /// Receives messages until the connection ends.
    PubsubSub "/pubsub/sub" {
        arg: &'a str,
    }
}
