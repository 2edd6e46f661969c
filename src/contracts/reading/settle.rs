//! What has to be so of a whole object, beyond what each of its fields is.

use serde_json::{Map, Value};

use super::{
    super::{document::Result, grammar::Kind},
    Reading,
};

impl Reading<'_> {
    /// What has to be so of a whole object.
    pub(super) fn settle(&mut self, fields: &mut Map<String, Value>, kind: Kind) -> Result {
        match kind {
            Kind::Parameter => {
                let place = fields["in"].as_str().unwrap_or_default();
                if !["path", "query", "header", "cookie"].contains(&place) {
                    return self.wrong("`in` must be path, query, header or cookie");
                }
                if place == "path" {
                    fields.insert("required".to_owned(), true.into());
                }
                if fields.contains_key("schema") == fields.contains_key("content") {
                    return self.wrong("a parameter needs either `schema` or `content`");
                }
            }
            Kind::Schema => {
                if let Some(kind) = fields.get("type").and_then(Value::as_str)
                    && !["array", "boolean", "integer", "number", "object", "string"].contains(&kind)
                {
                    return self.wrong(&format!("`{}` is no type", kind.escape_debug()));
                }
                if fields.get("type").is_some_and(|kind| kind == "array") && !fields.contains_key("items") {
                    return self.wrong("a list needs `items`");
                }
                if let Some(discriminator) = fields.get_mut("discriminator") {
                    self.discriminate(discriminator)?;
                }
            }
            Kind::Operation => {
                let responses = fields.get("responses").and_then(Value::as_object);
                if let Some(wrong) = responses.into_iter().flat_map(Map::keys).find(|key| !is_response(key)) {
                    let wrong = wrong.escape_debug();
                    return self.wrong(&format!("`{wrong}` is no status: 200, 2XX or `default`"));
                }
            }
            Kind::ExternalDocs => self.check_url(&fields["url"])?,
            Kind::Example => self.check_url(fields.get("externalValue").unwrap_or(&Value::Null))?,
            Kind::Link => {
                if let Some(id) = fields.get("operationId").and_then(Value::as_str) {
                    if !self.known_ids.contains(id) {
                        return self.wrong(&format!("links to `{id}`, which is no operation of this document"));
                    }
                    let id = self.names.of(id);
                    fields.insert("operationId".to_owned(), id.into());
                }
                if let Some(reference) = fields.get("operationRef").and_then(Value::as_str) {
                    let target = self.names.reference(reference).or_else(|wrong| self.wrong(&wrong))?;
                    self.references.push((self.place(), target.clone()));
                    fields.insert("operationRef".to_owned(), target.into());
                }
            }
            Kind::SecurityScheme => {
                let kind = fields["type"].as_str().unwrap_or_default();
                if !["apiKey", "http", "oauth2", "openIdConnect"].contains(&kind) {
                    // Whoever asks for it must not look open now.
                    return self.wrong(&format!(
                        "`{}` is no security scheme of OpenAPI 3.0",
                        kind.escape_debug()
                    ));
                }
                self.check_url(fields.get("openIdConnectUrl").unwrap_or(&Value::Null))?;
                let flows = fields.get("flows").and_then(Value::as_object);
                for flow in flows.into_iter().flat_map(Map::values) {
                    for url in ["authorizationUrl", "tokenUrl", "refreshUrl"] {
                        self.check_url(&flow[url])?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What a discriminator means by its values: names of schemas, or references.
    fn discriminate(&mut self, discriminator: &mut Value) -> Result {
        if !discriminator["propertyName"].is_string() {
            return self.wrong("`discriminator` needs `propertyName`");
        }
        let Some(mapping) = discriminator.get_mut("mapping").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        for value in mapping.values_mut() {
            let Some(text) = value.as_str() else {
                return self.wrong("`discriminator.mapping` must have texts");
            };
            let reference = if is_component_name(text) && self.has_schema(text) {
                format!("#/components/schemas/{text}")
            } else {
                text.to_owned()
            };
            let target = self.names.reference(&reference).or_else(|wrong| self.wrong(&wrong))?;
            self.references.push((self.place(), target.clone()));
            *value = target.into();
        }
        Ok(())
    }

    fn has_schema(&self, name: &str) -> bool {
        self.components
            .get("schemas")
            .is_some_and(|schemas| schemas.get(name).is_some())
    }

    /// Pages make links of URLs, and some schemes are programs.
    fn check_url(&self, url: &Value) -> Result {
        match url.as_str() {
            Some(text) if !is_web(text) => self.wrong("a URL must be of http or https, or relative to one"),
            _ => Ok(()),
        }
    }
}

/// Whether a URL leads to a page.
pub(in crate::contracts) fn is_web(url: &str) -> bool {
    match url::Url::parse(url) {
        Ok(url) => matches!(url.scheme(), "http" | "https"),
        Err(error) => error == url::ParseError::RelativeUrlWithoutBase,
    }
}

/// Whether a response can be declared for it.
fn is_response(key: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_status = key.len() == 3 && key.starts_with(['1', '2', '3', '4', '5']);
    key == "default" || key.starts_with("x-") || is_status && (digits(key) || key.ends_with("XX"))
}

/// Whether a component may be called so.
pub(super) fn is_component_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty() && name.bytes().all(allowed)
}
