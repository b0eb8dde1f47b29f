//! The host name of a request.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, StatusCode, Uri, Version, header};

use super::problem::Problem;

/// The host of a request; empty if it has none and needs none.
pub(super) fn named<'a>(uri: &'a Uri, headers: &'a HeaderMap, version: Version) -> Result<&'a str, Problem> {
    let mut given = headers.get_all(header::HOST).iter();
    let (first, second) = (given.next(), given.next());
    if second.is_some() {
        return Err(bad("there is more than one `Host` header; send one"));
    }
    if first.is_none() && version >= Version::HTTP_11 {
        return Err(bad("there is no `Host` header; HTTP/1.1 requires one"));
    }
    let header = first.map(|value| value.to_str().ok().and_then(host_of));
    let authority = uri.authority().map(|authority| host_of(authority.as_str()));
    // The request line takes precedence; the header must be valid in any case.
    match (authority, header) {
        (Some(None), _) | (_, Some(None)) => {
            Err(bad("the name of the host must be a name or an IP address, and may have a port"))
        }
        (Some(Some(host)), _) | (None, Some(Some(host))) => Ok(host),
        (None, None) => Ok(""),
    }
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-host", "The host cannot be read", detail)
}

/// The host in `host[:port]` (RFC 3986, without user information); `None` if the text has another form.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&b);
            host.bytes().all(allowed).then_some((host, port))?
        }
    };
    is_port(port).then_some(host)
}

/// Empty, or `:` and an optional port.
fn is_port(text: &str) -> bool {
    let Some(digits) = text.strip_prefix(':') else { return text.is_empty() };
    digits.is_empty() || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
}

/// Whether a host is one of our names.
pub(super) fn is_ours(host: &str, hosts: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_answered() {
        let hosts = vec!["gateway.lan".to_owned()];
        let check = |given: &str, expected: Option<bool>| {
            assert_eq!(host_of(given).map(|host| is_ours(host, &hosts)), expected, "{given}");
        };
        for ours in [
            "127.0.0.1:8687",
            "192.168.1.4",
            "[::1]:8687",
            "[::1]",
            "localhost:8687",
            "localhost:",
            "Gateway.LAN",
        ] {
            check(ours, Some(true));
        }
        check("gateway.lan.", Some(true));
        for other in ["evil.example:8687", "127.0.0.1.evil.example", ""] {
            check(other, Some(false));
        }
        for broken in [
            "gateway.lan@evil.example",
            "[::1]evil",
            "[::1]:evil",
            "[::1",
            "[localhost]",
            "::1",
            "localhost:1:2",
            "localhost:65536",
            "localhost:+1",
            "localhost evil.example",
            "localhost,evil.example/",
        ] {
            check(broken, None);
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let check = |uri: &str, hosts: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            let uri: Uri = uri.parse().unwrap();
            let found = named(&uri, &headers, Version::HTTP_11);
            assert_eq!(found.ok(), expected, "{uri} {hosts:?}");
        };
        check("/status", &["localhost:1"], Some("localhost"));
        check("http://gateway.lan/status", &["localhost"], Some("gateway.lan"));
        check("/status", &[], None);
        check("http://gateway.lan/status", &[], None);
        check("/status", &["localhost", "localhost"], None);
        check("http://gateway.lan/status", &["[::1]evil"], None);
        check("http://user@gateway.lan/status", &["localhost"], None);
        let (uri, none) = (Uri::from_static("/status"), HeaderMap::new());
        let old = named(&uri, &none, Version::HTTP_10);
        assert_eq!(old.ok(), Some(""));
    }
}
