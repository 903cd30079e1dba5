//! Makes text from elsewhere harmless: one line, fit for a terminal, a log or a commit message.

/// Returns `text` as one line of at most `limit` characters. Control and invisible characters become spaces,
/// runs of white space become one space, and a cut is marked with `…`.
pub fn one_line(text: &str, limit: usize) -> String {
    let visible = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c });
    let mut line = String::new();
    let mut length = 0;
    let mut gap = false;
    for c in visible {
        // A gap is written only before the next visible character, so none is left at either end.
        if c.is_whitespace() {
            gap = length > 0;
            continue;
        }
        let needed = 1 + usize::from(gap);
        if length + needed > limit {
            // Makes room for the mark within the limit.
            while length >= limit.max(1) {
                line.pop();
                length -= 1;
            }
            line.push('…');
            return line;
        }
        if gap {
            line.push(' ');
        }
        line.push(c);
        length += needed;
        gap = false;
    }
    line
}

/// Characters that can move a cursor, hide text or reverse its direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, limit: usize, expected: &str) {
        assert_eq!(one_line(text, limit), expected);
    }

    #[test]
    fn plain_text_stays() {
        check("batch 64 → 32", 80, "batch 64 → 32");
    }

    #[test]
    fn lines_and_runs_of_space_become_one_space() {
        check("  a\n\nVerdict: keep\t b \r\n", 80, "a Verdict: keep b");
    }

    #[test]
    fn escapes_and_invisible_characters_go() {
        check("a\u{1b}[31mred\u{202e}x\u{0}", 80, "a [31mred x");
    }

    #[test]
    fn a_cut_is_marked_and_within_the_limit() {
        check("abcdef", 6, "abcdef");
        check("abcdefg", 6, "abcde…");
        check("ab cdefg", 3, "ab…");
        assert_eq!(one_line(&"é".repeat(50), 10).chars().count(), 10);
    }
}
