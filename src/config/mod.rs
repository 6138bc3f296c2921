//! Settings: from code, environment and file, and the cache that they describe.
//!
//! `settings.rs` is the table, `kinds/` what its values can be, `name.rs`, `row.rs` and `values.rs`
//! what follows from it. `builder.rs` reads every source into a [`Config`], `open.rs` opens what
//! was read, with one file for each backend.

#[cfg(all(feature = "libp2p", feature = "disk"))]
mod anchor_store;
mod backend_name;
mod backends;
mod builder;
mod clock;
mod configuration;
mod env;
mod error;
mod file;
#[cfg(feature = "ipfs")]
mod ipfs;
mod journal;
mod kinds;
#[cfg(any(feature = "memory", feature = "disk"))]
mod local;
mod misplaced;
mod misspelt;
mod name;
#[cfg(feature = "libp2p")]
mod node;
mod open;
mod peer_text;
mod peers;
#[cfg(feature = "redis")]
mod redis;
mod role;
mod row;
#[cfg(feature = "s3")]
mod s3;
#[cfg(not(feature = "seal"))]
#[path = "no_secret.rs"]
mod secret;
#[cfg(feature = "seal")]
mod secret;
mod secret_file;
mod server;
mod settings;
mod show;
mod size;
mod source;
mod spelling;
#[cfg(feature = "storacha")]
mod storacha;
mod untrusted;
mod value;
mod values;

pub use backend_name::BackendName;
pub use builder::ConfigBuilder;
pub use configuration::{COMMAND, Config};
pub use error::{ConfigError, redacted};
pub use file::MAX_CONFIG_FILE_BYTES;
pub use name::Group;
#[cfg(feature = "libp2p")]
pub use node::NodeSummary;
pub use role::NodeRole;
pub use row::{SettingInfo, known_settings};
pub use server::{GitHubSettings, ServerSettings};
pub use show::Setting;
pub use value::Origin;
