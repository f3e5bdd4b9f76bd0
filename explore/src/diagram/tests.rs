use std::collections::BTreeMap;

use bindery::binding::{Phase, TRANSITIONS};

use super::layout::{BOX, SIZE, arrow, place};
use super::*;

fn counts() -> BTreeMap<String, u64> {
    (1..).zip(TRANSITIONS.iter().skip(1)).map(|(count, t)| (coverage_name(t), count * 1000)).collect()
}

#[test]
fn every_transition_of_the_table_is_drawn_once_and_nothing_else() {
    let picture = svg(None);
    for t in TRANSITIONS {
        let edge = format!("<g class=\"edge\" id=\"{}-{}\">", t.from, t.to);
        assert_eq!(picture.matches(&edge).count(), 1, "{edge}");
        assert_eq!(picture.matches(&format!(">{}</text>", t.label)).count(), 1, "{}", t.label);
    }
    assert_eq!(picture.matches("class=\"edge\"").count(), TRANSITIONS.len());
    assert_eq!(picture.matches("<line ").count(), TRANSITIONS.len());
    assert_eq!(picture.matches("class=\"phase\"").count(), Phase::ALL.len());
}

#[test]
fn every_transition_of_the_table_is_listed_once_and_nothing_else() {
    let list = text(None);
    assert_eq!(list.lines().count(), TRANSITIONS.len());
    for t in TRANSITIONS {
        let words = format!("{} -> {} {}", t.from, t.to, t.label);
        let line = |line: &&str| line.split_whitespace().collect::<Vec<_>>().join(" ") == words;
        assert_eq!(list.lines().filter(line).count(), 1, "{words}");
    }
}

#[test]
fn counts_stand_at_their_arrows_and_transitions_never_taken_are_marked() {
    let counts = counts();
    let (picture, list) = (svg(Some(&counts)), text(Some(&counts)));
    for (at, t) in TRANSITIONS.iter().enumerate() {
        let times = if at == 0 { "never".to_owned() } else { format!("{at}000 times") };
        let edge = picture.split("<g ").find(|g| g.contains(&format!("id=\"{}-{}\"", t.from, t.to))).unwrap();
        assert!(edge.contains(&format!(">{times}</text>")), "{edge}");
        assert!(list.lines().nth(at).unwrap().ends_with(&times), "{list}");
    }
    assert_eq!(picture.matches("class=\"never\"").count(), 1);
}

#[test]
fn arrows_join_the_borders_of_their_phases_and_everything_is_inside_the_picture() {
    let inside = |(x, y): (i32, i32)| (0..SIZE.0).contains(&x) && (0..SIZE.1).contains(&y);
    let on_border = |(x, y): (i32, i32), phase| {
        let (cx, cy) = place(phase);
        let (dx, dy) = ((x - cx).abs(), (y - cy).abs());
        (dx == BOX.0 / 2 && dy <= BOX.1 / 2) || (dy == BOX.1 / 2 && dx <= BOX.0 / 2)
    };
    for t in TRANSITIONS {
        let arrow = arrow(t.from, t.to);
        assert!(on_border(arrow.from, t.from) && on_border(arrow.to, t.to), "{} -> {}", t.from, t.to);
        // 8 is more than the widest letter of this size takes on average.
        let width = 8 * i32::try_from(t.label.len()).unwrap();
        let (left, right) = match arrow.anchor {
            "start" => (0, width),
            "end" => (width, 0),
            _ => (width / 2, width / 2),
        };
        let (x, y) = arrow.label;
        assert!(inside((x - left, y - 14)) && inside((x + right, y + 20)), "{:?} at {:?}", t.label, arrow.label);
    }
}

#[test]
fn two_arrows_never_lie_on_each_other() {
    for t in TRANSITIONS {
        assert!(!TRANSITIONS.iter().any(|u| (u.from, u.to) == (t.to, t.from)), "{} and back: bend one", t.from);
    }
}
