//! Path patterns of delegations (specification 1.0.34, section 4.5): `*` and `?` within a segment, never across `/`.

/// Whether `path` is one of the paths that `pattern` means.
pub(crate) fn is_match(pattern: &str, path: &str) -> bool {
    pattern.split('/').count() == path.split('/').count()
        && pattern.split('/').zip(path.split('/')).all(|(pattern, part)| segment(pattern, part))
}

/// Greedy with one point of return, so O(pattern x text) and no recursion.
fn segment(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after_star, taken)) => {
                    retry = Some((after_star, taken + 1));
                    p = after_star;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_never_crosses_a_slash() {
        for (pattern, path, expected) in [
            ("patches/pilot/*", "patches/pilot/a.deb", true),
            ("patches/pilot/*", "patches/pilot/x/a.deb", false),
            ("patches/*", "patches/pilot/a.deb", false),
            ("patches/*/*.deb", "patches/pilot/a.b.deb", true),
            ("patches/*/*.deb", "patches/pilot/a.rpm", false),
            ("fleet/endpoints-*", "fleet/endpoints-lyon", true),
            ("fleet/?oster", "fleet/roster", true),
            ("*", "fleet/roster", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyyb", false),
            ("foo-?.tgz", "foo-é.tgz", true),
            ("", "a", false),
        ] {
            assert_eq!(is_match(pattern, path), expected, "{pattern} {path}");
        }
    }
}
