//! The layers put together, and the memory of which of them set what.
//!
//! Later layers win key by key; of lists the last one counts, except for
//! `routes`, of which those of all files add up. An item of that list therefore
//! has another index in the whole than in its file: places and secrets are kept
//! by the index in the file, and everything here is asked by that in the whole.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use figment::{
    Figment,
    value::{Dict, Value},
};

use super::{
    ConfigFile, DEFAULT_ORIGIN,
    entry::dotted,
    interpolate::{self, Secrets},
    layer::{self, Layer, ROUTES},
    place::Places,
    setting::ConfigError,
};

/// Layers on their way to being one value.
pub(super) struct Stack {
    layers: Vec<Layer>,
    /// How many layers are weaker than the environment.
    written: usize,
    places: Places,
    secrets: Secrets,
    /// How many routes the files before each file have.
    routes_before: BTreeMap<String, usize>,
    routes: usize,
}

/// A mistake in a file, with the parts of its key.
type Mistake = (Vec<String>, ConfigError);

impl Stack {
    /// With the defaults.
    pub(super) fn on(defaults: Layer) -> Self {
        Self {
            layers: vec![defaults],
            written: 1,
            places: Places::default(),
            secrets: Secrets::default(),
            routes_before: BTreeMap::new(),
            routes: 0,
        }
    }

    /// Adds a file; returns what is wrong with the variables in it.
    pub(super) fn add_file(
        &mut self,
        file: &ConfigFile,
        environment: &BTreeMap<String, String>,
    ) -> Result<Vec<Mistake>, ConfigError> {
        let name = file.path.display().to_string();
        let mut layer = Layer::toml(&name, &file.content)?;
        self.places.add(&name, &file.content);
        let mistakes = interpolate::apply(&name, layer.dict_mut(), environment, &mut self.secrets);
        match layer.dict_mut().get(ROUTES) {
            Some(Value::Array(_, list)) => {
                self.routes_before.insert(name.clone(), self.routes);
                self.routes += list.len();
            }
            // Replaces the lists before it, and is a mistake.
            Some(_) => self.routes = 0,
            None => {}
        }
        let before = self.routes_before.get(&name).copied().unwrap_or(0);
        self.layers.push(layer);
        self.written = self.layers.len();
        let mistakes = mistakes.into_iter().map(|(path, message)| {
            let origin = self.places.of(&name, &path);
            let path = moved(&path, |index| Some(index + before)).map_or_else(Vec::new, Cow::into_owned);
            let error = ConfigError {
                origin,
                key: dotted(&path),
                message,
            };
            (path, error)
        });
        Ok(mistakes.collect())
    }

    /// Adds a layer that is stronger than all files.
    pub(super) fn add(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// Puts the layers together.
    ///
    /// # Errors
    /// Those of the library that does it.
    pub(super) fn merge(self) -> Result<Origins, Vec<ConfigError>> {
        let mut figment = Figment::new();
        for (index, layer) in self.layers.iter().enumerate() {
            figment = if index < self.written {
                let (routes, others) = layer.clone().divided(ROUTES);
                figment.merge(others).admerge(routes)
            } else {
                figment.merge(layer.clone())
            };
        }
        let root = figment.find_value("").map_err(|error| {
            let errors = error.into_iter().map(|error| ConfigError {
                origin: error.metadata.as_ref().map_or_else(String::new, |m| m.name.to_string()),
                key: error.path.join("."),
                message: error.kind.to_string(),
            });
            errors.collect::<Vec<_>>()
        })?;
        Ok(Origins {
            figment,
            root,
            layers: self.layers,
            written: self.written,
            places: self.places,
            secrets: self.secrets,
            routes_before: self.routes_before,
        })
    }
}

/// A path of a route with another index; any other path as it is. `None` when
/// there is no such index.
fn moved(path: &[String], index: impl FnOnce(usize) -> Option<usize>) -> Option<Cow<'_, [String]>> {
    let number = match path {
        [table, number, ..] if table == ROUTES => number.parse().ok(),
        _ => None,
    };
    let Some(number) = number else {
        return Some(path.into());
    };
    let mut path = path.to_vec();
    path[1] = index(number)?.to_string();
    Some(path.into())
}

/// Knows which layer set each key, where in a file, and what is secret.
#[derive(Clone)]
pub struct Origins {
    figment: Figment,
    root: Value,
    /// Each layer, weakest first.
    pub(super) layers: Vec<Layer>,
    /// How many layers are weaker than the environment.
    pub(super) written: usize,
    places: Places,
    secrets: Secrets,
    routes_before: BTreeMap<String, usize>,
}

/// Of no layer at all.
impl Default for Origins {
    fn default() -> Self {
        Self {
            figment: Figment::new(),
            root: Value::from(Dict::new()),
            layers: Vec::new(),
            written: 0,
            places: Places::default(),
            secrets: Secrets::default(),
            routes_before: BTreeMap::new(),
        }
    }
}

/// Without the values, which may be credentials.
impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins").finish_non_exhaustive()
    }
}

impl Origins {
    /// What the layers come to.
    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    /// What set a key, such as `gateway.toml:3:1` or `environment variable
    /// read_timeout`; `None` when nothing did.
    pub fn of(&self, path: &[String]) -> Option<String> {
        layer::at(&self.root, path).map(|value| self.place(value, path))
    }

    /// A message for people without what the file's variables gave.
    pub fn masked(&self, message: String) -> String {
        self.secrets.mask(message)
    }

    /// Whether the value of a key has a variable in it that a file refers to.
    pub fn is_secret(&self, path: &[String]) -> bool {
        layer::at(&self.root, path).is_some_and(|value| self.is_secret_value(value, path))
    }

    /// [`is_secret`](Self::is_secret) for a value at hand.
    pub(crate) fn is_secret_value(&self, value: &Value, path: &[String]) -> bool {
        self.is_secret_in(&self.layer(value), path)
    }

    /// Whether a layer's value of a key has such a variable in it.
    pub(super) fn is_secret_in(&self, layer: &str, path: &[String]) -> bool {
        self.within(layer, path)
            .is_some_and(|path| self.secrets.has(layer, &path))
    }

    /// Where a value stands: the place in its file, or the name of its layer.
    pub(crate) fn place(&self, value: &Value, path: &[String]) -> String {
        self.place_in(&self.layer(value), path)
    }

    /// Where a layer sets a key.
    pub(super) fn place_in(&self, layer: &str, path: &[String]) -> String {
        match self.within(layer, path) {
            Some(path) => self.places.of(layer, &path),
            None => layer.to_owned(),
        }
    }

    /// The path of a key within a layer; `None` when it is a route of another one.
    pub(super) fn within<'p>(&self, layer: &str, path: &'p [String]) -> Option<Cow<'p, [String]>> {
        let before = self.routes_before.get(layer).copied().unwrap_or(0);
        moved(path, |index| index.checked_sub(before))
    }

    /// The name of the layer a value came from.
    fn layer(&self, value: &Value) -> String {
        self.figment
            .get_metadata(value.tag())
            .map_or_else(|| "configuration".to_owned(), |metadata| metadata.name.to_string())
    }

    /// The layer to blame for a relation between keys: the first that is not
    /// the defaults.
    pub(crate) fn to_blame(&self, keys: &[Vec<String>]) -> String {
        keys.iter()
            .filter_map(|key| self.of(key))
            .find(|origin| origin != DEFAULT_ORIGIN)
            .unwrap_or_else(|| DEFAULT_ORIGIN.to_owned())
    }
}
