//! What the page quotes.

/// `line` without the time that it begins with and the count that it ends with, if it does.
fn timeless(line: &str) -> &str {
    let line = line.trim();
    let line = line.strip_suffix(" times)").and_then(|l| l.rsplit_once(" (")).map_or(line, |(l, _)| l);
    line.strip_prefix('[').and_then(|l| l.split_once("] ")).filter(|(t, _)| t.contains('.')).map_or(line, |(_, l)| l)
}

/// Asserts that the lines of each quotation of `page` that has `what` in it stand in `printed`, in this order. `...` is
/// for lines left out.
pub(super) fn quoted(page: &str, what: &str, printed: &str) {
    let blocks = page.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut found = 0;
    for block in blocks.filter(|block| block.contains(what)) {
        let mut printed = printed.lines().map(timeless);
        for line in block.lines().map(timeless).filter(|line| *line != "...") {
            found += 1;
            assert!(printed.any(|p| p == line), "the page quotes, and the run does not print (in this order): {line}");
        }
    }
    assert!(found > 2, "the page quotes {what:?}");
}
