//! A URL, taken apart.

use hyper::Uri;

use crate::config::Address;

/// What is needed of a URL to connect, to ask, and to speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) address: Address,
    /// For the `Host` field.
    pub(super) authority: String,
    /// With the query.
    pub(super) path: String,
    /// Without the query, which may hold a secret.
    pub(super) name: String,
}

impl Site {
    pub(super) fn parse(url: &str) -> Result<Site, String> {
        let bad = |what: &str| format!("`url`: {what}; give one like https://host/path");
        let uri: Uri = url.parse().map_err(|error| bad(&format!("not a URL ({error})")))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("it does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("a password in it would be logged; use `token_file`"));
        }
        let host = authority.host().to_owned();
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let scheme = if tls { "https" } else { "http" };
        Ok(Site {
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            name: format!("{scheme}://{authority}{}", uri.path()),
            address: Address { host, port, tls },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let site = Site::parse("https://example.org/in/events?key=secret").unwrap();
        assert_eq!((&site.address.host[..], site.address.port, site.address.tls), ("example.org", 443, true));
        assert_eq!((&site.authority[..], &site.path[..]), ("example.org", "/in/events?key=secret"));
        assert_eq!(site.name, "https://example.org/in/events");
        let site = Site::parse("http://[::1]:8080").unwrap();
        assert_eq!((&site.address.host[..], site.address.port, &site.path[..]), ("[::1]", 8080, "/"));
    }

    #[test]
    fn what_is_no_url_is_said() {
        for url in ["", "example.org", "ftp://a/b", "http://", "https://u:p@host/", "http://a b/"] {
            let why = Site::parse(url).unwrap_err();
            assert!(why.starts_with("`url`: ") && why.ends_with("https://host/path"), "{url}: {why}");
        }
    }
}
