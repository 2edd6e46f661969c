//! Generates the client.
//!
//! progenitor takes one type of body and one of answers for each operation, and
//! stops with an error (or leaves the operation out) where a document has more. So
//! it gets the document without that, and what is left out is printed: Cargo keeps
//! it in the file `output` beside what is generated.

use std::{collections::BTreeMap, env, error::Error, fs::File, path::Path};

use progenitor_impl::{GenerationSettings, Generator, InterfaceStyle};
use quote::quote;
use serde_json::{Map, Value};

const DOCUMENT: &str = "../../../openapi/openapi.json";

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const ANY: &str = "*/*";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={DOCUMENT}");
    println!("cargo::rerun-if-changed=build.rs");
    let mut document: Value = serde_json::from_reader(File::open(DOCUMENT)?)?;
    simplify(&mut document);
    let document: openapiv3::OpenAPI = serde_json::from_value(document)?;
    let mut settings = GenerationSettings::default();
    settings
        .with_interface(InterfaceStyle::Builder)
        .with_inner_type(quote! { crate::Sender });
    let client = Generator::new(&settings).generate_tokens(&document)?;
    let file = Path::new(&env::var("OUT_DIR")?).join("client.rs");
    std::fs::write(file, client.to_string())?;
    Ok(())
}

fn simplify(document: &mut Value) {
    for response in fields(&mut document["components"]["responses"]).values_mut() {
        settle(response);
    }
    for operation in fields(&mut document["paths"])
        .values_mut()
        .filter_map(Value::as_object_mut)
        .flat_map(Map::values_mut)
    {
        let id = operation["operationId"].to_string();
        if let Some(content) = operation.pointer_mut("/requestBody/content").map(fields)
            && content.len() > 1
        {
            content.retain(|kind, _| kind == JSON || println!("{id}: no body of {kind}") != ());
        }
        let responses = fields(&mut operation["responses"]);
        responses.values_mut().for_each(settle);
        // It stands for further errors, and is taken for a success.
        if responses.keys().any(|status| status.starts_with('2')) && responses.remove("default").is_some() {
            println!("{id}: no response `default`");
        }
    }
}

/// Leaves one type of an error: a problem, or bytes where it may be a function's.
fn settle(response: &mut Value) {
    let Some(content) = response.get_mut("content").map(fields) else {
        return;
    };
    if content.contains_key(PROBLEM) {
        let mut kinds: BTreeMap<String, Value> = std::mem::take(content).into_iter().collect();
        let any = kinds.remove(ANY).map(|any| (ANY, any));
        let kept = any.or_else(|| kinds.remove(PROBLEM).map(|problem| (JSON, problem)));
        content.extend(kept.map(|(kind, schema)| (kind.to_owned(), schema)));
    }
}

fn fields(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("an object")
}
