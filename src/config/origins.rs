//! The layers put together, and the memory of which of them set what.
//!
//! Later layers win key by key; of lists the last one counts, except for
//! `routes`, of which those of all files add up. An item of that list therefore
//! has another index in the whole than in its file: places and secrets are kept
//! by the index in the file, and everything here is asked by that in the whole.
//!
//! Values that are in files of their own ([`super::secret`]) are read here too,
//! after the layers were put together, and only those that count.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap, fmt, path::PathBuf};

use figment::{
    Figment,
    value::{Dict, Value},
};

use super::{
    ConfigFile, DEFAULT_ORIGIN,
    entry::{dotted, one_line},
    interpolate::{self, Secrets},
    layer::{self, Layer, ROUTES, Tier},
    place::Places,
    scalar,
    secret::{self, Reference, Referenced},
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
        let tier = Tier::File(self.layers.len());
        self.layers.push(layer.at(tier));
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
    pub(super) fn add(&mut self, layer: Layer, tier: Tier) {
        self.layers.push(layer.at(tier));
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

    /// Reads the values that are in files of their own. Returns what is wrong
    /// with them, and the files. `unmade` are keys without a value, to which
    /// those are added that have none because of that.
    pub(super) fn resolve(&mut self, unmade: &mut Vec<Vec<String>>) -> (Vec<Mistake>, Vec<Referenced>) {
        let mut mistakes = self.set_in_both_forms();
        let mut read: BTreeMap<PathBuf, (Result<String, String>, Referenced)> = BTreeMap::new();
        for Reference { file, key } in secret::references(&self.root) {
            let Some(named) = layer::at(&self.root, &file).cloned() else {
                continue;
            };
            let layer = self.layer(&named);
            let value = layer::at(&self.root, &key).map(|value| self.tier(&self.layer(value)));
            match value.cmp(&Some(self.tier(&layer))) {
                // Another layer's word counts: this form is as good as not there.
                Ordering::Greater => {
                    layer::remove(&mut self.root, &file);
                    continue;
                }
                // A mistake, told already.
                Ordering::Equal => continue,
                Ordering::Less => {}
            }
            if unmade.contains(&file) {
                unmade.push(key);
                continue;
            }
            let Some(path) = scalar::text(&named).filter(|path| !path.is_empty()) else {
                continue;
            };
            let path = PathBuf::from(path);
            let (value, _) = read.entry(path.clone()).or_insert_with(|| secret::read(&path));
            match value {
                Ok(value) => {
                    let [inner, same] = [&key, &file].map(|path| self.within(&layer, path).map(Cow::into_owned));
                    if let (Some(inner), Some(same)) = (inner, same) {
                        self.places.alias(&layer, &inner, &same);
                        self.secrets.add(&layer, inner, secret::parts(value));
                    }
                    secret::put(&mut self.root, &key, Value::String(named.tag(), value.clone()));
                }
                Err(message) => {
                    let error = ConfigError {
                        origin: self.place(&named, &file),
                        key: dotted(&file),
                        message: format!("{}: {message}", one_line(&path.to_string_lossy())),
                    };
                    mistakes.push((key, error));
                }
            }
        }
        (mistakes, read.into_values().map(|(_, file)| file).collect())
    }

    /// Keys that layers of one tier set both by value and by file.
    fn set_in_both_forms(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for layer in &self.layers {
            for Reference { file, key } in secret::references(&layer.root()) {
                let both = self.layers.iter().find(|other| {
                    let comparable = other.name() == layer.name() || key.first().is_none_or(|first| first != ROUTES);
                    other.tier() == layer.tier() && comparable && layer::at(&other.root(), &key).is_some()
                });
                let Some(other) = both else { continue };
                let before = self.routes_before.get(layer.name()).copied().unwrap_or(0);
                let whole = |path: &[String]| moved(path, |index| Some(index + before)).map(Cow::into_owned);
                let (Some(whole_file), Some(whole_key)) = (whole(&file), whole(&key)) else {
                    continue;
                };
                let error = ConfigError {
                    origin: self.places.of(layer.name(), &file),
                    key: dotted(&whole_file),
                    message: format!(
                        "{} is set too ({}); keep one of the two",
                        dotted(&whole_key),
                        self.places.of(other.name(), &key)
                    ),
                };
                mistakes.push((whole_file, error));
            }
        }
        mistakes
    }

    fn tier(&self, layer: &str) -> Tier {
        let named = self.layers.iter().find(|other| other.name() == layer);
        named.map_or(Tier::Defaults, Layer::tier)
    }

    /// What set a key, such as `gateway.toml:3:1` or `environment variable
    /// read_timeout`; `None` when nothing did.
    pub fn of(&self, path: &[String]) -> Option<String> {
        layer::at(&self.root, path).map(|value| self.place(value, path))
    }

    /// A message for people without what variables and other files gave.
    pub fn masked(&self, message: String) -> String {
        self.secrets.mask(message)
    }

    /// Whether the value of a key has a variable in it that a file refers to,
    /// or is in a file of its own.
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
