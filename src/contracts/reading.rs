//! The way through a document: each object in turn, by what the [`grammar`](super::grammar)
//! says it is made of, so that a `$ref` in an example is no reference and a
//! property named `example` is a schema. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    document::{Result, invalid},
    grammar::{Field, Kind, METHODS},
    names::{Names, OperationIds, made_up, unescaped},
    older,
};

mod settle;

use settle::is_component_name;
pub(super) use settle::is_web;

/// Most notes of a document; further ones are only counted.
const NOTES: usize = 20;

/// A document on its way.
pub(super) struct Reading<'d> {
    names: Names<'d>,
    label: &'d str,
    newer: bool,
    components: &'d Map<String, Value>,
    /// What operations ask for that say nothing of it.
    security: Option<&'d Value>,
    known_ids: BTreeSet<String>,
    ids: OperationIds,
    /// Where something is referred to, and what.
    references: Vec<(String, String)>,
    notes: Vec<String>,
    more_notes: usize,
    /// Where we are.
    at: Vec<String>,
}

impl<'d> Reading<'d> {
    /// Of a document in these names, of OpenAPI 3.1 when it is `newer`.
    pub(super) fn new(names: Names<'d>, label: &'d str, newer: bool, components: &'d Map<String, Value>) -> Self {
        Self {
            names,
            label,
            newer,
            components,
            security: None,
            known_ids: BTreeSet::new(),
            ids: OperationIds::default(),
            references: Vec::new(),
            notes: Vec::new(),
            more_notes: 0,
            at: Vec::new(),
        }
    }

    /// What operations ask of callers that say nothing of it, and the ids that
    /// links may have.
    pub(super) fn inherit(&mut self, security: Option<&'d Value>, known_ids: BTreeSet<String>) {
        (self.security, self.known_ids) = (security, known_ids);
    }

    /// The ids of all operations so far.
    pub(super) fn operations(&self) -> BTreeSet<String> {
        self.ids.all().map(str::to_owned).collect()
    }

    fn place(&self) -> String {
        self.at.join(".")
    }

    fn wrong<T>(&self, what: &str) -> Result<T> {
        Err(invalid(&self.place(), what))
    }

    pub(super) fn note(&mut self, what: &str) {
        let place = self.place();
        let note = if place.is_empty() {
            what.to_owned()
        } else {
            format!("{place}: {what}")
        };
        if self.notes.len() < NOTES {
            self.notes.push(note);
        } else {
            self.more_notes += 1;
        }
    }

    pub(super) fn told(mut self) -> Vec<String> {
        if self.more_notes > 0 {
            self.notes.push(format!("and {} more", self.more_notes));
        }
        self.notes
    }

    /// Does something one step further in.
    fn within<T>(&mut self, part: &str, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.at.push(part.to_owned());
        let done = work(self)?;
        self.at.pop();
        Ok(done)
    }

    pub(super) fn paths(&mut self, paths: Map<String, Value>) -> Result<Map<String, Value>> {
        let mut all = Map::new();
        self.at.push("paths".to_owned());
        for (path, item) in paths {
            if path.starts_with("x-") {
                continue;
            }
            if !path.starts_with('/') || path.contains(['?', '#']) {
                return self.wrong(&format!(
                    "`{path}` is no path: it must begin with a slash, without query or fragment"
                ));
            }
            let item = self.within(&path, |this| this.path_item(item, Some(&path)))?;
            all.insert(self.names.path(&path), item);
        }
        self.at.pop();
        Ok(all)
    }

    /// A path item; of a path, or of a callback.
    fn path_item(&mut self, item: Value, path: Option<&str>) -> Result<Value> {
        let item = match item.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.referred_item(reference)?,
            None => item,
        };
        let Value::Object(fields) = self.fields(item, Kind::PathItem)? else {
            return self.wrong("must be an object");
        };
        let mut fields = fields;
        let shared = fields.get("parameters").cloned().unwrap_or_default();
        for method in METHODS {
            let Some(operation) = fields.get_mut(method).and_then(Value::as_object_mut) else {
                continue;
            };
            self.at.push(method.to_owned());
            let own = operation.get("operationId").and_then(Value::as_str).map(str::to_owned);
            let own = own.unwrap_or_else(|| made_up(method, path.unwrap_or("callback")));
            let id = self.ids.take(&self.names.of(&own));
            if id != self.names.of(&own) {
                self.note(&format!("another operation has the id `{own}` too; this one is `{id}`"));
            }
            operation.insert("operationId".to_owned(), id.into());
            operation.insert("tags".to_owned(), json!([self.label]));
            self.secure(operation, path.is_some())?;
            if operation
                .get("responses")
                .is_none_or(|responses| responses == &json!({}))
            {
                if !self.newer {
                    return self.wrong("an operation needs `responses`");
                }
                let any = json!({ "default": { "description": "Whatever the function answers." } });
                operation.insert("responses".to_owned(), any);
            }
            if let Some(path) = path {
                self.check_parameters(
                    path,
                    [&shared, &operation.get("parameters").cloned().unwrap_or_default()],
                )?;
            }
            self.at.pop();
        }
        Ok(fields.into())
    }

    /// 3.0 has no place for path items that are referred to.
    fn referred_item(&self, reference: &str) -> Result<Value> {
        let name = reference.strip_prefix("#/components/pathItems/");
        let found = name.and_then(|name| self.components.get("pathItems")?.get(unescaped(name)));
        match found {
            Some(item) if item.get("$ref").is_none() => Ok(item.clone()),
            _ => self.wrong(&format!(
                "refers to `{reference}`, which is no path item of this document"
            )),
        }
    }

    /// What an operation asks of its callers: names of the function's own.
    fn secure(&mut self, operation: &mut Map<String, Value>, inherits: bool) -> Result {
        let inherited = self.security.filter(|_| inherits).cloned();
        let Some(asked) = operation.remove("security").or(inherited) else {
            return Ok(());
        };
        let Value::Array(ways) = asked else {
            return self.wrong("`security` must be a list");
        };
        let mut renamed = Vec::new();
        for way in ways {
            let Value::Object(schemes) = way else {
                return self.wrong("`security` must be a list of objects");
            };
            let mut way = Map::new();
            for (name, scopes) in schemes {
                let known = self.components.get("securitySchemes").and_then(|all| all.get(&name));
                if known.is_none() {
                    return self.wrong(&format!(
                        "`security` names `{name}`, which is not in components.securitySchemes"
                    ));
                }
                // Since 3.1 scopes may be roles of any scheme, in 3.0 of two kinds only.
                let has_scopes =
                    known.is_some_and(|known| matches!(known["type"].as_str(), Some("oauth2" | "openIdConnect")));
                way.insert(self.names.of(&name), if has_scopes { scopes } else { json!([]) });
            }
            renamed.push(way);
        }
        operation.insert("security".to_owned(), json!(renamed));
        Ok(())
    }

    /// Whether the parts of a path are what parameters say.
    fn check_parameters(&self, path: &str, lists: [&Value; 2]) -> Result {
        let in_path: BTreeSet<&str> = path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
            .collect();
        let mut declared = BTreeSet::new();
        for parameter in lists.into_iter().filter_map(Value::as_array).flatten() {
            // By now references have their new names; components still their old ones.
            let referred = parameter["$ref"].as_str().and_then(|reference| {
                let name = reference.strip_prefix("#/components/parameters/")?;
                let all = self.components.get("parameters")?.as_object()?;
                all.iter()
                    .find(|(own, _)| self.names.of(own) == unescaped(name))
                    .map(|(_, found)| found)
            });
            let parameter = referred.unwrap_or(parameter);
            if parameter["in"] == "path" {
                declared.insert(parameter["name"].as_str().unwrap_or_default().to_owned());
            }
        }
        if let Some(missing) = in_path.iter().find(|name| !declared.contains(**name)) {
            return self.wrong(&format!("there is no parameter for `{{{missing}}}` of the path"));
        }
        if let Some(surplus) = declared.iter().find(|name| !in_path.contains(name.as_str())) {
            return self.wrong(&format!("the path has no `{{{surplus}}}`, which is a parameter of it"));
        }
        Ok(())
    }

    pub(super) fn components(&mut self, components: Map<String, Value>) -> Result<Map<String, Value>> {
        let mut all = Map::new();
        self.at.push("components".to_owned());
        for (section, of_section) in components {
            // Path items stand where they are referred to.
            if section.starts_with("x-") || section == "pathItems" {
                continue;
            }
            let Some(kind) = Kind::of_section(&section) else {
                self.note(&format!("`{section}` is not known to OpenAPI 3.0"));
                continue;
            };
            let Value::Object(of_section) = of_section else {
                return self.wrong(&format!("`{section}` must be an object"));
            };
            self.at.push(section.clone());
            let mut renamed = Map::new();
            for (name, component) in of_section {
                if !is_component_name(&name) {
                    return self.wrong(&format!(
                        "`{name}` is no name of a component: letters, digits, '.', '-' and '_'"
                    ));
                }
                let component = self.within(&name, |this| this.object(component, kind))?;
                renamed.insert(self.names.of(&name), component);
            }
            self.at.pop();
            if !renamed.is_empty() {
                all.insert(section, renamed.into());
            }
        }
        self.at.pop();
        Ok(all)
    }

    /// An object of this kind, or a reference to one.
    fn object(&mut self, value: Value, kind: Kind) -> Result<Value> {
        let Some(section) = kind.section() else {
            return if kind == Kind::PathItem {
                self.path_item(value, None)
            } else {
                self.fields(value, kind)
            };
        };
        let value = match (value, kind) {
            (Value::Bool(true), Kind::Schema) => json!({}),
            (Value::Bool(false), Kind::Schema) => json!({ "not": {} }),
            (Value::Object(fields), Kind::Schema) if self.newer => {
                let mut notes = Vec::new();
                let fields = older::schema(fields, &mut |note| notes.push(note.to_owned()));
                for note in notes {
                    self.note(&note);
                }
                fields.into()
            }
            (value, _) => value,
        };
        let Some(reference) = value.get("$ref") else {
            return self.fields(value, kind);
        };
        let Some(reference) = reference.as_str() else {
            return self.wrong("`$ref` must be text");
        };
        let target = self.names.reference(reference).or_else(|wrong| self.wrong(&wrong))?;
        let parts: Vec<&str> = target.split('/').collect();
        if parts.len() == 4 && parts[1] == "components" && parts[2] != section {
            return self.wrong(&format!("refers to `{reference}`, which is not {}", kind.as_str()));
        }
        self.references.push((self.place(), target.clone()));
        Ok(json!({ "$ref": target }))
    }

    /// The fields of an object of this kind.
    fn fields(&mut self, value: Value, kind: Kind) -> Result<Value> {
        let Value::Object(fields) = value else {
            return self.wrong(&format!("{} must be an object", kind.as_str()));
        };
        if let Some(missing) = kind.required().iter().find(|name| !fields.contains_key(**name)) {
            return self.wrong(&format!("{} needs `{missing}`", kind.as_str()));
        }
        let mut kept = Map::new();
        for (name, value) in fields {
            if name.starts_with("x-") {
                kept.insert(name, value);
                continue;
            }
            match kind.field(&name) {
                Some(field) => {
                    let value = self.within(&name, |this| this.field(value, field))?;
                    kept.insert(name, value);
                }
                None if name == "servers" || name == "server" => {
                    self.note("servers are left out: the function is called here");
                }
                None => self.note(&format!("`{name}` cannot be said of {} in OpenAPI 3.0", kind.as_str())),
            }
        }
        self.settle(&mut kept, kind)?;
        Ok(kept.into())
    }

    fn field(&mut self, value: Value, field: Field) -> Result<Value> {
        let must_be = match field {
            Field::One(kind) => return self.object(value, kind),
            Field::SchemaOrFlag if value.is_boolean() => return Ok(value),
            Field::SchemaOrFlag => return self.object(value, Kind::Schema),
            Field::List(kind) => {
                let Value::Array(items) = value else {
                    return self.wrong("must be a list");
                };
                let items = items.into_iter().enumerate();
                let items = items.map(|(index, item)| self.within(&index.to_string(), |this| this.object(item, kind)));
                return items.collect::<Result<Vec<_>>>().map(Value::from);
            }
            Field::Map(kind) => {
                let Value::Object(items) = value else {
                    return self.wrong("must be an object");
                };
                let mut kept = Map::new();
                for (name, item) in items {
                    // Among properties there may be such names.
                    let item = if name.starts_with("x-") && kind != Kind::Schema && kind != Kind::Header {
                        item
                    } else {
                        self.within(&name, |this| this.object(item, kind))?
                    };
                    kept.insert(name, item);
                }
                return Ok(kept.into());
            }
            Field::Text if !value.is_string() => "text",
            Field::Flag if !value.is_boolean() => "true or false",
            Field::Number if !value.is_number() => "a number",
            Field::Texts if !value.as_array().is_some_and(|all| all.iter().all(Value::is_string)) => "a list of texts",
            _ => return Ok(value),
        };
        self.wrong(&format!("must be {must_be}"))
    }

    /// Whether what is referred to is there, now that all is said in 3.0.
    pub(super) fn check_references(&self, paths: &Map<String, Value>, components: &Map<String, Value>) -> Result {
        for (place, target) in &self.references {
            let mut parts = target.split('/').skip(1).map(unescaped);
            let root = match parts.next().as_deref() {
                Some("paths") => paths,
                _ => components,
            };
            let first = parts.next().and_then(|part| root.get(&part));
            let found = parts.fold(first, |found, part| match found? {
                Value::Array(items) => items.get(part.parse::<usize>().ok()?),
                found => found.get(&part),
            });
            if found.is_none() {
                return Err(invalid(place, &format!("refers to `{target}`, which is not there")));
            }
        }
        Ok(())
    }
}
