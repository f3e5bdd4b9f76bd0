//! Enums whose variants have a text.

/// Makes an enum, and `Display` from the text behind each variant.
macro_rules! texts {
    ($(#[$meta:meta])* $enum:ident: $($(#[$variant:meta])* $name:ident = $text:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub(super) enum $enum { $($(#[$variant])* $name,)* }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

pub(super) use texts;
