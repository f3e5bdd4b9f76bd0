//! Linux error numbers.

use core::fmt;

macro_rules! numbers {
    ($($name:ident = $number:literal,)*) => {
        /// Linux error numbers, used at the control tree's edge only (`include/uapi/asm-generic/errno-base.h`,
        /// `errno.h`).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(i32)]
        #[expect(missing_docs, reason = "the names are the documentation")]
        pub enum Errno { $($name = $number,)* }

        impl Errno {
            /// Every error number that the control tree returns.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name as in the C headers: `"EBUSY"`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

numbers! {
    EPERM = 1,
    ENOENT = 2,
    EIO = 5,
    ENXIO = 6,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EBUSY = 16,
    EEXIST = 17,
    ENODEV = 19,
    ENOTDIR = 20,
    EISDIR = 21,
    EINVAL = 22,
    ENAMETOOLONG = 36,
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
