//! Paths and queries: what two spellings of one resource have in common.

/// The canonical form of a touched or looked-up resource.
pub(crate) fn resource_key(host: &str, target: &str) -> String {
    key("", host, &normal(target))
}

/// The path of an API request as the corpus has it: `/api/v3` and `/api/graphql` are GitHub
/// Enterprise's.
pub(crate) fn without_enterprise_prefix(target: &str) -> &str {
    if let Some(rest) = target.strip_prefix("/api/v3").filter(|rest| rest.starts_with('/')) {
        return rest;
    }
    if target.strip_prefix("/api/graphql").is_some_and(|rest| rest.is_empty() || rest.starts_with('?')) {
        return &target["/api".len()..];
    }
    target
}

/// Whoever cannot keep the `Host` of a request, such as a proxy that is told to send downloads
/// here, names it in the path.
const HOST_PREFIX: &str = "/_fakehub/host/";

/// The host that the path names, and the path below it.
pub(crate) fn named_host(target: &str) -> Option<(&str, &str)> {
    let rest = target.strip_prefix(HOST_PREFIX)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some((&rest[..end], if end == rest.len() { "/" } else { &rest[end..] }))
}

/// What a request or a recording is found by.
pub(crate) fn key(method: &str, host: &str, target: &str) -> String {
    format!("{method} {host}{target}")
}

/// Percent-decoded (what separates parts stays encoded), the query's parameters sorted.
pub(crate) fn normal(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut normal = decoded(path, false);
    if !query.is_empty() {
        let mut pairs: Vec<String> =
            query.split('&').filter(|pair| !pair.is_empty()).map(|pair| decoded(pair, true)).collect();
        pairs.sort();
        normal.push('?');
        normal.push_str(&pairs.join("&"));
    }
    normal
}

fn decoded(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let escaped = digits
            .filter(|pair| bytes[at] == b'%' && pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match escaped {
            // These separate parts; decoded they would mean something else.
            Some(byte @ (b'/' | b'&' | b'=' | b'%' | b'+' | b'?')) => {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
                at += 3;
            }
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if plus_is_space && bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_resource_are_one_key() {
        let one = resource_key("h", "/a%20b/%c3%a9?y=1+2&&x=%7E");
        assert_eq!(one, resource_key("h", "/a b/é?x=~&y=1%202"));
        assert_ne!(resource_key("h", "/a%2Fb"), resource_key("h", "/a/b"));
        assert_ne!(resource_key("h", "/?q=a%2Bb"), resource_key("h", "/?q=a+b"));
        assert_eq!(normal("/100%"), "/100%");
    }

    #[test]
    fn a_host_may_be_named_in_the_path() {
        let named = |target| named_host(target);
        assert_eq!(named("/_fakehub/host/h.example/a/b?c=d"), Some(("h.example", "/a/b?c=d")));
        assert_eq!(named("/_fakehub/host/h.example"), Some(("h.example", "/")));
        assert_eq!(named("/repos/o/r"), None);
    }

    #[test]
    fn enterprise_prefixes_are_taken_off() {
        assert_eq!(without_enterprise_prefix("/api/v3/user"), "/user");
        assert_eq!(without_enterprise_prefix("/api/graphql"), "/graphql");
        assert_eq!(without_enterprise_prefix("/api/v3x"), "/api/v3x");
    }
}
