use proptest::prelude::*;

use super::super::{Path, PathError};

#[test]
fn a_path_is_written_shortly() {
    let text = |choices: &[u32]| Path::new(choices.to_vec()).to_string();
    assert_eq!(text(&[]), "-");
    assert_eq!(text(&[0, 0, 0]), "-");
    assert_eq!(text(&[0, 1]), "0.1");
    assert_eq!(text(&[0, 0, 0, 2, 0, 1, 0, 0]), "0x3.2.0.1");
}

#[test]
fn a_wrong_path_is_refused_with_the_place() {
    let error = |text: &str| text.parse::<Path>().unwrap_err();
    assert_eq!((error(""), error(" ")), (PathError::Empty, PathError::Empty));
    assert_eq!(error("0.x.1").to_string(), "part 2 of the path is \"x\": neither a number nor 0xCOUNT");
    assert_eq!(error("1..2"), PathError::Part { position: 2, part: String::new() });
    assert_eq!(error("0x.1"), PathError::Part { position: 1, part: "0x".into() });
    assert_eq!(error("4294967296"), PathError::Part { position: 1, part: "4294967296".into() });
    assert_eq!(error("0x1000000000.1"), PathError::TooLong);
    assert_eq!(error("0x1048576.1"), PathError::TooLong);
}

proptest! {
    #[test]
    fn a_written_path_is_read_back(choices in prop::collection::vec(0u32..4, 0..200)) {
        let path = Path::new(choices);
        prop_assert_eq!(path.to_string().parse::<Path>(), Ok(path));
    }

    #[test]
    fn no_text_is_too_strange(text in "[-0-9x. ]{0,40}") {
        let _ = text.parse::<Path>();
    }
}
