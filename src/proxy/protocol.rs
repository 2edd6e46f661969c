//! Which protocol a function is called in.

use crate::{
    config::{FunctionSettings, UpstreamProtocol},
    upstream::{PathForm, Protocol, Upstream},
};

/// The protocol of calls over an upstream. What the file says is about whoever
/// takes the calls; what a function says is about itself, and so of no use to a
/// provider in between.
pub fn of(upstream: &Upstream, settings: &FunctionSettings) -> Protocol {
    let own = || settings.own_protocol.filter(|_| upstream.path == PathForm::Trimmed);
    match settings.protocol.or_else(own) {
        Some(UpstreamProtocol::H2c) if upstream.endpoint.takes_http2() => Protocol::Http2,
        _ => Protocol::Http1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Address, Endpoint, PoolLimits};

    #[test]
    fn a_function_speaks_for_itself_and_the_file_for_whoever_takes_calls() {
        use UpstreamProtocol::{H2c, Http1};
        let upstream = |path| Upstream {
            endpoint: Endpoint::new(Address::Unix("/socket".into()), PoolLimits::default()),
            path,
        };
        let through = || PathForm::Full { base: "".into() };
        for (file, own, path, expected) in [
            (None, None, PathForm::Trimmed, Protocol::Http1),
            (Some(H2c), None, PathForm::Trimmed, Protocol::Http2),
            (Some(H2c), None, through(), Protocol::Http2),
            (None, Some(H2c), PathForm::Trimmed, Protocol::Http2),
            (None, Some(H2c), through(), Protocol::Http1),
            (Some(Http1), Some(H2c), PathForm::Trimmed, Protocol::Http1),
        ] {
            let settings = FunctionSettings {
                protocol: file,
                own_protocol: own,
                ..FunctionSettings::none()
            };
            let found = of(&upstream(path.clone()), &settings);
            assert_eq!(found, expected, "{file:?} {own:?} {path:?}");
        }
    }
}
