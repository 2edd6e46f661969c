//! The files of the portal, the API reference and the OpenAPI document, all
//! embedded in the binary.
//!
//! Nothing here is loaded from elsewhere: pages carry a content security policy
//! that says so. Links are relative, so the portal works below a path prefix.
//!
//! The portal's files are open: they are the same in every gateway and hold nothing
//! secret. What they show is behind the API, and the page asks for credentials itself.
//! With `--no-default-features` a debug build reads them from `assets/ui` at each
//! request, so that a change needs no build.

use std::{borrow::Cow, sync::Arc};

use arc_swap::ArcSwapOption;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use poem::{
    Response,
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
};
use rust_embed::Embed;
use sha2::{Digest, Sha256};

use super::{
    contracts,
    openapi::{self, Form, Reader, Shown},
};
use crate::{problem::Problem, proxy::headers};

/// Paths served here beside the portal's files, and whether they are open.
pub(super) const PATHS: [(&str, bool); 11] = [
    ("/", true),
    ("/ui", true),
    ("/ui/", true),
    (SWAGGER, false),
    (REDOC, false),
    (SWAGGER_FUNCTIONS, false),
    (REDOC_FUNCTIONS, false),
    (contracts::PATH, false),
    (JSON, true),
    (YAML, true),
    (JSON_31, true),
];

/// What all files of the portal are called where paths are counted.
pub(super) const FILES: &str = "/ui/{file}";
const BELOW: &str = "/ui/";
const INDEX: &str = "index.html";

const SWAGGER: &str = "/docs";
const REDOC: &str = "/docs/redoc";
const SWAGGER_FUNCTIONS: &str = "/docs/functions";
const REDOC_FUNCTIONS: &str = "/docs/functions/redoc";
const JSON: &str = "/openapi.json";
const YAML: &str = "/openapi.yaml";
const JSON_31: &str = "/openapi/3.1.json";

/// The portal's own files need nothing inline and nothing from elsewhere.
const PORTAL_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The readers of the document come as one page each, with everything inline; Redoc
/// searches in a worker that it makes of a blob. What runs is named by its digest:
/// a function may write into its contract what it likes, and none of it runs.
fn reference_policy(page: &str) -> String {
    let scripts = scripts(page).map(|script| {
        // As the browser sees it.
        let script = script.replace("\r\n", "\n").replace('\r', "\n");
        format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)))
    });
    let scripts = scripts.collect::<Vec<_>>().join(" ");
    format!(
        "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; \
         font-src data:; worker-src blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
}

/// The scripts in a page.
fn scripts(page: &str) -> impl Iterator<Item = &str> {
    let mut rest = page;
    std::iter::from_fn(move || {
        let (_, tag) = rest.split_once("<script")?;
        let (_, content) = tag.split_once('>')?;
        let (script, after) = content.split_once("</script")?;
        rest = after;
        Some(script)
    })
}

/// Everything below `assets/ui`, as it is there.
#[derive(Embed)]
#[folder = "assets/ui/"]
struct Ui;

/// Whether a path is that of a file of the portal.
pub(super) fn is_file(path: &str) -> bool {
    path.strip_prefix(BELOW).is_some_and(|name| Ui::get(name).is_some())
}

/// The type of a file by the end of its name; licences have none.
fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "md" | "txt" | "ts" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// A file that is sent whole.
pub(super) struct File {
    content_type: &'static str,
    policy: Option<HeaderValue>,
    content: Bytes,
    /// Digest of the content, quoted.
    tag: HeaderValue,
}

impl File {
    pub(super) fn new(content_type: &'static str, policy: Option<&str>, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let tag = tag(&Sha256::digest(&content));
        Self {
            content_type,
            policy: policy.map(|policy| HeaderValue::try_from(policy).expect("text for a header")),
            content,
            tag,
        }
    }

    /// A file of the portal, whose digest was taken when it was embedded.
    fn embedded(name: &str) -> Option<Self> {
        let file = Ui::get(name)?;
        Some(Self {
            content_type: content_type(name).unwrap_or("application/octet-stream"),
            policy: Some(HeaderValue::from_static(PORTAL_POLICY)),
            content: match file.data {
                Cow::Borrowed(content) => Bytes::from_static(content),
                Cow::Owned(content) => content.into(),
            },
            tag: tag(&file.metadata.sha256_hash()),
        })
    }

    /// The file, or 304 when the caller has it already.
    pub(super) fn response(&self, request: &HeaderMap) -> Response {
        let mut response = if self.is_known(request) {
            Response::from(StatusCode::NOT_MODIFIED)
        } else {
            Response::builder()
                .content_type(self.content_type)
                .body(self.content.clone())
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.tag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if let Some(policy) = &self.policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        response
    }

    fn is_known(&self, request: &HeaderMap) -> bool {
        request
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.tag.as_bytes())
    }
}

/// Half of a digest, quoted.
fn tag(digest: &[u8]) -> HeaderValue {
    use std::fmt::Write as _;
    let mut tag = String::from("\"");
    for byte in &digest[..16] {
        // Writing to a string cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::try_from(tag).expect("hexadecimal digits")
}

/// The files that name the server, for the one that was last asked for: a page has
/// more than a megabyte, so it is put together when it is needed.
#[derive(Default)]
pub(super) struct BasedFiles {
    json: ArcSwapOption<Based>,
    yaml: ArcSwapOption<Based>,
    json_31: ArcSwapOption<Based>,
    swagger: ArcSwapOption<Based>,
    redoc: ArcSwapOption<Based>,
    swagger_functions: ArcSwapOption<Based>,
    redoc_functions: ArcSwapOption<Based>,
}

struct Based {
    server: String,
    file: File,
}

impl BasedFiles {
    /// The document at `path`, if that is one.
    fn document(&self, path: &str, server: &str) -> Option<Arc<Based>> {
        let (slot, form, content_type) = match path {
            JSON => (&self.json, Form::Json, "application/json"),
            YAML => (&self.yaml, Form::Yaml, "application/yaml"),
            JSON_31 => (&self.json_31, Form::Json31, "application/json"),
            _ => return None,
        };
        let write = || File::new(content_type, None, openapi::document_below(server, form));
        Some(kept(slot, server, write))
    }

    fn reference(&self, reader: Reader, shown: Shown, base: &str) -> Arc<Based> {
        let slot = match (reader, shown) {
            (Reader::Swagger, Shown::Gateway) => &self.swagger,
            (Reader::Redoc, Shown::Gateway) => &self.redoc,
            (Reader::Swagger, Shown::Functions) => &self.swagger_functions,
            (Reader::Redoc, Shown::Functions) => &self.redoc_functions,
        };
        kept(slot, base, || {
            let page = openapi::reference_below(base, reader, shown);
            let policy = reference_policy(&page);
            File::new("text/html; charset=utf-8", Some(&policy), page)
        })
    }

    fn page(&self, reader: Reader, shown: Shown, base: &str, request: &HeaderMap) -> Response {
        self.reference(reader, shown, base).file.response(request)
    }

    /// Answers for one of [`PATHS`] or a file of the portal; `None` for any other path. `base` is what
    /// the gateway's paths are below.
    pub(super) fn serve(
        &self,
        path: &str,
        request: &HeaderMap,
        enabled: bool,
        base: &str,
    ) -> Option<Result<Response, Problem>> {
        if let Some(document) = self.document(path, &server(request, base)) {
            return Some(Ok(document.file.response(request)));
        }
        if !PATHS.iter().any(|(known, _)| *known == path) && !is_file(path) {
            return None;
        }
        if !enabled {
            let text = "the portal is switched off (ui.enabled)";
            return Some(Err(Problem::new(StatusCode::NOT_FOUND, text).setting("ui.enabled")));
        }
        Some(Ok(match path {
            SWAGGER => self.page(Reader::Swagger, Shown::Gateway, base, request),
            REDOC => self.page(Reader::Redoc, Shown::Gateway, base, request),
            SWAGGER_FUNCTIONS => self.page(Reader::Swagger, Shown::Functions, base, request),
            REDOC_FUNCTIONS => self.page(Reader::Redoc, Shown::Functions, base, request),
            BELOW => File::embedded(INDEX)?.response(request),
            "/" | "/ui" => to_portal(base),
            _ => File::embedded(path.strip_prefix(BELOW)?)?.response(request),
        }))
    }
}

/// Where the gateway is for whoever asks: behind a proxy that says what it was asked
/// for, a whole URL; else where the document itself is.
pub(super) fn server(request: &HeaderMap, base: &str) -> String {
    let told = |name| request.get(name).and_then(|value| value.to_str().ok()).map(first);
    let Some(host) =
        told(headers::FORWARDED_HOST).filter(|host| !host.contains('@') && host.parse::<Authority>().is_ok())
    else {
        return base.to_owned();
    };
    let scheme = told(headers::FORWARDED_PROTO).filter(|scheme| matches!(*scheme, "http" | "https"));
    format!("{}://{host}{base}", scheme.unwrap_or("http"))
}

/// The first of a list: what the outermost proxy saw.
fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

/// What is kept for this server, or made for it and kept from now on.
fn kept(slot: &ArcSwapOption<Based>, server: &str, write: impl FnOnce() -> File) -> Arc<Based> {
    if let Some(known) = slot.load_full().filter(|known| known.server == server) {
        return known;
    }
    let made = Arc::new(Based {
        server: server.to_owned(),
        file: write(),
    });
    slot.store(Some(Arc::clone(&made)));
    made
}

fn to_portal(base: &str) -> Response {
    Response::builder()
        .status(StatusCode::TEMPORARY_REDIRECT)
        .header(header::LOCATION, format!("{base}/ui/"))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_run_by_their_digests_only() {
        let page =
            "<head><script charset=\"UTF-8\">a('<script>')\r\n</script></head><script>b()</script><p onclick=\"c()\">";
        assert_eq!(scripts(page).collect::<Vec<_>>(), ["a('<script>')\r\n", "b()"]);
        let policy = reference_policy("<script>alert(1)</script>");
        let digest = "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='";
        assert!(policy.contains(&format!("script-src {digest}; style-src")), "{policy}");
    }

    #[test]
    fn every_file_has_a_type_and_a_name_that_needs_no_encoding() {
        let mut files = 0;
        for name in Ui::iter() {
            files += 1;
            assert!(content_type(&name).is_some(), "{name}");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte);
            assert!(name.bytes().all(plain), "{name}");
            assert!(is_file(&format!("/ui/{name}")), "{name}");
        }
        assert!(files > 10, "{files} files");
    }

    #[test]
    fn nothing_else_is_a_file() {
        for path in [
            "/ui/",
            "/ui/..",
            "/ui/../ui/app.js",
            "/ui//app.js",
            "/ui/%61pp.js",
            "/ui/vendor",
            "/ui/vendor/",
        ] {
            assert!(!is_file(path), "{path}");
        }
    }
}
