//! Lists of functions to choose from (compatibility.md section 8.4), with what this
//! gateway adds.

use std::collections::BTreeMap;

use poem_openapi::Object;

use super::wire::Timestamp;

/// The image of functions that are commands of the gateway's own machine.
pub const LOCAL_IMAGE: &str = "local";

/// Functions to choose from; a superset of OpenFaaS's store file.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "Store")]
pub struct Store {
    /// Version of the format: OpenFaaS's.
    pub version: String,
    /// Where the functions come from, by priority.
    pub stores: Vec<StoreSource>,
    /// The functions, by the priority of their stores.
    pub functions: Vec<StoreFunction>,
}

/// Where a list of functions comes from.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(rename = "StoreSource")]
pub struct StoreSource {
    /// Its name.
    pub name: String,
    /// `embedded` (in the binary), `url` or `path`.
    pub kind: String,
    /// Where it is fetched, without user name, password and query.
    #[oai(skip_serializing_if_is_none)]
    pub url: Option<String>,
    /// The file it is read from.
    #[oai(skip_serializing_if_is_none)]
    pub path: Option<String>,
    /// The highest comes first.
    pub priority: u32,
    /// How many functions it has.
    pub functions: u64,
    /// `fresh`, `stale` (there is an older list), `failed` (there is none) or `pending` (it is being read for the first time).
    pub state: String,
    /// When the list was read, or was last known to be the newest.
    #[oai(rename = "fetchedAt", skip_serializing_if_is_none)]
    pub fetched_at: Option<Timestamp>,
    /// Why the last attempt to read it came to nothing.
    #[oai(skip_serializing_if_is_none)]
    pub error: Option<String>,
    /// Entries that were left out.
    #[oai(default, skip_serializing_if_is_empty)]
    pub refused: Vec<StoreRefusal>,
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "StoreRefusal")]
pub struct StoreRefusal {
    /// Its name, or its number from 0 where it has none.
    pub entry: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A function to choose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object)]
#[oai(rename = "StoreFunction")]
pub struct StoreFunction {
    /// Name for people.
    pub title: String,
    /// Name to deploy it under.
    pub name: String,
    /// What it does.
    pub description: String,
    /// URL of a picture.
    #[oai(skip_serializing_if_is_none)]
    pub icon: Option<String>,
    /// Who made it.
    #[oai(skip_serializing_if_is_none)]
    pub author: Option<String>,
    /// Images by architecture: `x86_64`, `arm64`, `armhf`.
    pub images: BTreeMap<String, String>,
    /// Command that the watchdog runs; the image's own when absent.
    #[oai(skip_serializing_if_is_none)]
    pub fprocess: Option<String>,
    /// Where its source is.
    #[oai(skip_serializing_if_is_none)]
    pub repo_url: Option<String>,
    /// Whether its file system may be read-only.
    #[oai(rename = "readOnlyRootFilesystem", skip_serializing_if_is_none)]
    pub read_only_root_filesystem: Option<bool>,
    /// Environment variables.
    #[oai(default, skip_serializing_if_is_empty)]
    pub environment: BTreeMap<String, String>,
    /// Labels.
    #[oai(default, skip_serializing_if_is_empty)]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[oai(default, skip_serializing_if_is_empty)]
    pub annotations: BTreeMap<String, String>,
    /// Names of secrets that it reads.
    #[oai(default, skip_serializing_if_is_empty)]
    pub secrets: Vec<String>,
    /// Docker Swarm's network, in old lists.
    #[oai(skip_serializing_if_is_none)]
    pub network: Option<String>,
    /// Programs that the machine must have.
    #[oai(default, skip_serializing_if_is_empty)]
    pub requires: Vec<String>,
    /// The store it is from.
    pub store: String,
    /// Its image for the architecture that was asked for.
    #[oai(skip_serializing_if_is_none)]
    pub image: Option<String>,
    /// Whether it can be deployed here.
    pub deployable: bool,
    /// Why not.
    #[oai(skip_serializing_if_is_none)]
    pub reason: Option<String>,
}
