//! Many contracts become one document. Pure.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};

use super::document::Contract;

/// The version of OpenAPI that is written, as of the gateway's own document.
const VERSION: &str = "3.0.3";

/// Where the document says what became of each function's contract.
const STATES: &str = "x-faas-gateway-contracts";

const DESCRIPTION: &str = "What the functions of this gateway take and answer, in their own words: the documents that \
     they are annotated with (`com.openfaas.openapi`), below the paths at which they are called. \
     `x-faas-gateway-contracts` lists them all, and says why one is left out.";

/// What became of a function's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is in the document.
    Shown,
    /// An older copy is in the document: the newest could not be had.
    Stale,
    /// No replica was ready yet that could be asked for it.
    Waiting,
    /// It is no document that can be shown.
    Invalid,
    /// It could not be had.
    Unavailable,
    /// Its function is not for callers outside.
    Internal,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Stale => "stale",
            Self::Waiting => "waiting",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

/// One function's contract, and how it stands.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// The function's name in paths and names.
    pub(super) label: String,
    /// Where the document is from.
    pub(super) source: String,
    pub(super) state: State,
    pub(super) error: Option<String>,
    pub(super) contract: Option<Arc<Contract>>,
}

/// The document of all, for callers at `server`.
pub(super) fn document(server: &str, all: Vec<Shown>) -> Value {
    let mut merged = Merged::default();
    let states: Vec<Value> = all.into_iter().map(|shown| merged.add(shown)).collect();
    let server = if server.is_empty() { "/" } else { server };
    let mut document = json!({
        "openapi": VERSION,
        "info": { "title": "Functions", "version": env!("CARGO_PKG_VERSION"), "description": DESCRIPTION },
        "servers": [{ "url": server }],
        "tags": merged.tags,
        "paths": merged.paths,
        STATES: states,
    });
    if !merged.components.is_empty() {
        document["components"] = merged.components.into();
    }
    document
}

#[derive(Default)]
struct Merged {
    tags: Vec<Value>,
    paths: Map<String, Value>,
    components: Map<String, Value>,
    /// Ids of operations, and names of components with their section.
    taken: BTreeSet<String>,
}

impl Merged {
    /// Adds one; returns how it stands.
    fn add(&mut self, shown: Shown) -> Value {
        let Shown {
            label,
            source,
            mut state,
            mut error,
            contract,
        } = shown;
        let mut notes = &[][..];
        if let Some(contract) = &contract {
            notes = &contract.notes;
            if let Some(name) = contract.names.iter().find(|name| self.taken.contains(*name)) {
                // Of a provider whose functions are of one namespace, one may be called `a.b`
                // and be taken for another's.
                state = State::Invalid;
                error = Some(format!("another function's document has `{name}` already"));
            } else {
                self.taken.extend(contract.names.iter().cloned());
                self.tags.push(contract.tag.clone());
                self.paths.extend(contract.paths.clone());
                for (section, components) in &contract.components {
                    let all = self.components.entry(section.clone()).or_insert_with(|| json!({}));
                    if let (Some(all), Some(more)) = (all.as_object_mut(), components.as_object()) {
                        all.extend(more.clone());
                    }
                }
            }
        }
        let mut told = json!({ "function": label, "source": source, "state": state.as_str() });
        if let Some(error) = error {
            told["error"] = error.into();
        }
        if !notes.is_empty() {
            told["notes"] = notes.into();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(label: &str, text: &str) -> Shown {
        Shown {
            label: label.to_owned(),
            source: "annotation".to_owned(),
            state: State::Shown,
            error: None,
            contract: Some(Arc::new(Contract::read(text.as_bytes(), label).expect("a document"))),
        }
    }

    const ORDERS: &str = "
openapi: 3.0.1
info: {title: Orders, version: '2', description: Takes orders.}
paths:
  /orders:
    get:
      operationId: list
      responses: {200: {description: All., content: {application/json: {schema: {$ref: '#/components/schemas/Order'}}}}}
components:
  schemas:
    Order: {type: object, properties: {next: {$ref: '#/components/schemas/Order'}}}
";

    #[test]
    fn two_of_the_same_contract_stay_apart() {
        let merged = document("/faas", vec![shown("a", ORDERS), shown("a.dev", ORDERS)]);
        let keys = |value: &Value| {
            value
                .as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&merged["paths"]), ["/function/a.dev/orders", "/function/a/orders"]);
        assert_eq!(keys(&merged["components"]["schemas"]), ["a.dev_Order", "a_Order"]);
        assert_eq!(
            merged["paths"]["/function/a.dev/orders"]["get"],
            json!({
                "operationId": "a.dev_list",
                "tags": ["a.dev"],
                "responses": { "200": { "description": "All.", "content": { "application/json": { "schema":
                    { "$ref": "#/components/schemas/a.dev_Order" } } } } },
            })
        );
        assert_eq!(
            merged["components"]["schemas"]["a_Order"]["properties"]["next"]["$ref"],
            "#/components/schemas/a_Order"
        );
        assert_eq!(
            merged["tags"][0],
            json!({ "name": "a", "description": "Orders 2\n\nTakes orders." })
        );
        assert_eq!(merged["servers"], json!([{ "url": "/faas" }]));
        assert_eq!(
            merged[STATES][1],
            json!({ "function": "a.dev", "source": "annotation", "state": "shown" })
        );
    }

    #[test]
    fn functions_whose_names_begin_alike_stay_apart() {
        let with = |component: &str| {
            ORDERS
                .replace("Order:", &format!("{component}:"))
                .replace("schemas/Order", &format!("schemas/{component}"))
                .replace("operationId: list", &format!("operationId: {component}"))
        };
        let all = [("a", "b_C"), ("a_b", "C"), ("a", "_b"), ("a_", "b")];
        for (index, (one, first)) in all.iter().enumerate() {
            for (other, second) in all.iter().skip(index + 1).filter(|(other, _)| other != one) {
                let merged = document("", vec![shown(one, &with(first)), shown(other, &with(second))]);
                assert_eq!(merged[STATES][1]["state"], "shown", "{one} {first}, {other} {second}");
                let schemas = merged["components"]["schemas"].as_object().map(Map::len);
                assert_eq!(schemas, Some(2), "{one} {first}, {other} {second}");
            }
        }
    }

    #[test]
    fn of_two_functions_of_the_same_name_the_second_is_left_out() {
        let merged = document("", vec![shown("a", ORDERS), shown("a", ORDERS)]);
        assert_eq!(merged[STATES][1]["state"], "invalid");
        assert_eq!(
            merged[STATES][1]["error"],
            "another function's document has `a_list` already"
        );
        assert_eq!(merged["paths"].as_object().map(Map::len), Some(1));
    }

    #[test]
    fn of_no_functions_there_is_a_document_too() {
        let merged = document("", Vec::new());
        assert_eq!(
            (&merged["paths"], &merged["servers"][0]["url"]),
            (&json!({}), &json!("/"))
        );
        assert_eq!(merged[STATES], json!([]));
        assert!(merged.get("components").is_none());
    }
}
