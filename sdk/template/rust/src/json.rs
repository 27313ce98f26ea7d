//! Enough JSON to look into a record without a crate. The host has checked the text: it is
//! one JSON value, so a member is found by walking over what is in front of it.
#![allow(dead_code)]

fn skip_string(b: &[u8], mut at: usize) -> usize {
    at += 1;
    while at < b.len() && b[at] != b'"' {
        at += if b[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(b.len())
}

fn skip_space(b: &[u8], mut at: usize) -> usize {
    while at < b.len() && b[at].is_ascii_whitespace() {
        at += 1;
    }
    at
}

fn skip_value(b: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < b.len() {
        match b[at] {
            b'"' => at = skip_string(b, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            b'}' | b']' | b',' if depth == 0 => return at,
            _ => at += 1,
        }
        if depth == 0 && at < b.len() && matches!(b[at - 1], b'"' | b'}' | b']') {
            return at;
        }
    }
    at
}

/// The member `key` of an object, as it stands in the text; strings with their quotes.
pub fn find<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let b = object.as_bytes();
    let mut at = skip_space(b, 0);
    if b.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(b, at + 1);
    while b.get(at) == Some(&b'"') {
        let end = skip_string(b, at);
        let name = object.get(at + 1..end.checked_sub(1)?)?;
        at = skip_space(b, end);
        if b.get(at) != Some(&b':') {
            return None;
        }
        at = skip_space(b, at + 1);
        let end = skip_value(b, at);
        if name == key {
            return Some(object.get(at..end)?.trim_end());
        }
        at = skip_space(b, end);
        if b.get(at) != Some(&b',') {
            return None;
        }
        at = skip_space(b, at + 1);
    }
    None
}

/// The elements of an array, as they stand in the text. None: no array.
pub fn elements(array: &str) -> Option<Vec<&str>> {
    let b = array.as_bytes();
    let mut list = Vec::new();
    let mut at = skip_space(b, 0);
    if b.get(at) != Some(&b'[') {
        return None;
    }
    at = skip_space(b, at + 1);
    while at < b.len() && b[at] != b']' {
        let end = skip_value(b, at);
        list.push(array.get(at..end)?.trim_end());
        at = skip_space(b, end);
        if b.get(at) == Some(&b',') {
            at = skip_space(b, at + 1);
        }
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_members_behind_others() {
        let o = r#"{ "a\"{": [1, {"b": "x"}], "n" : 17 , "c":{"d":"e,}"},"f":"g"}"#;
        assert_eq!(find(o, "n"), Some("17"));
        assert_eq!(find(o, "c"), Some(r#"{"d":"e,}"}"#));
        assert_eq!(find(o, "f"), Some(r#""g""#));
        assert_eq!(find(o, "b"), None);
        assert_eq!(find("[]", "b"), None);
    }

    #[test]
    fn walks_an_array() {
        assert_eq!(elements(r#"["a", [1,2] ,3]"#), Some(vec![r#""a""#, "[1,2]", "3"]));
        assert_eq!(elements("[]"), Some(vec![]));
        assert_eq!(elements("{}"), None);
    }
}
