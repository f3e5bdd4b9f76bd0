//! The architectures and kernels that guests are booted with.

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    /// A PC with VT-d
    #[value(name = "x86_64")]
    X86,
    /// A board with an SMMU of version 3
    #[value(name = "aarch64")]
    Arm,
}

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::X86, Self::Arm];

    /// Rust's and QEMU's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// Debian's name.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// The emulator, and the package that has it.
    pub(super) fn emulator(self) -> (&'static str, &'static str) {
        match self {
            Self::X86 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Arm => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// The emulator's arguments for the machine itself, its IOMMU included.
    pub(super) fn machine(self) -> &'static [&'static str] {
        match self {
            Self::X86 => &["-M", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on,caching-mode=on"],
            Self::Arm => &["-M", "virt,iommu=smmuv3,gic-version=3", "-cpu", "cortex-a57"],
        }
    }

    /// The kernel's command line.
    pub(super) fn command_line(self) -> &'static str {
        match self {
            // On a busy host an emulated timer ticks too late for the kernel's check of it, which would end in a panic, and a CPU may
            // stop for so long that a watchdog reports a hang, of which the auditor tells.
            Self::X86 => "console=ttyS0 intel_iommu=on quiet panic=-1 no_timer_check nowatchdog",
            Self::Arm => "console=ttyAMA0 quiet panic=-1 nowatchdog",
        }
    }
}

/// A stock kernel of Debian's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Version {
    /// Of Debian 12
    #[value(name = "6.1")]
    V6_1,
    /// Of Debian 12's backports
    #[value(name = "6.12")]
    V6_12,
}

impl Version {
    /// The release of Debian that has it.
    pub(super) fn release(self) -> &'static str {
        match self {
            Self::V6_1 => "bookworm",
            Self::V6_12 => "bookworm-backports",
        }
    }

    /// Its number.
    pub(super) fn number(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}
