//! `generate DOCUMENT FILE` writes a client for the document into the file.
//!
//! progenitor refuses a document as a whole where an operation has what it does not
//! know. So it gets the document without that, and what is left out is printed.

use std::{env, error::Error, fs::File};

use progenitor::{GenerationSettings, Generator, InterfaceStyle};
use serde_json::{Map, Value};

const JSON: &str = "application/json";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, document, file] = &arguments[..] else {
        return Err("usage: generate DOCUMENT FILE".into());
    };
    let mut document: Value = serde_json::from_reader(File::open(document)?)?;
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for operation in paths
        .filter_map(|(_, path)| path.as_object_mut())
        .flat_map(Map::values_mut)
    {
        simplify(operation);
    }
    let shared = document["components"]["responses"].as_object_mut();
    for (name, response) in shared.into_iter().flatten() {
        // A function may answer anything with these, and all errors of an operation are of one type.
        if name.starts_with("Problem") {
            let content = response["content"].as_object_mut().expect("a problem");
            let problem = content.remove("application/problem+json").expect("a problem");
            content.insert(JSON.to_owned(), problem);
        }
    }
    let document: openapiv3::OpenAPI = serde_json::from_value(document)?;
    let mut settings = GenerationSettings::default();
    settings.with_interface(InterfaceStyle::Builder);
    let tokens = Generator::new(&settings).generate_tokens(&document)?;
    std::fs::write(file, prettyplease::unparse(&syn::parse2(tokens)?))?;
    Ok(())
}

/// Leaves one type of body, and takes `default` for what it is: not a success.
fn simplify(operation: &mut Value) {
    let id = operation["operationId"].to_string();
    let body = operation
        .pointer_mut("/requestBody/content")
        .and_then(Value::as_object_mut);
    if let Some(content) = body.filter(|content| content.len() > 1) {
        content.retain(|kind, _| kind == JSON || println!("{id}: no body of {kind}") != ());
    }
    let responses = operation["responses"].as_object_mut().expect("responses");
    if responses.keys().any(|status| status.starts_with('2')) && responses.remove("default").is_some() {
        println!("{id}: no response `default`");
    }
}
