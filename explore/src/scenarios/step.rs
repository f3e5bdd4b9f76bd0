//! The steps that scenarios are made of.

use super::setup::Setup;
use super::stream::How;
use super::topology::{CONTROLLERS, DEVICES, IOMMUS};

/// One step. Devices, IOMMUs, controllers and guests are named by their index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Bind(usize),
    Unbind(usize),
    Add(usize),
    Remove(usize),
    Vanish(usize),
    BindIommu(usize),
    UnbindIommu(usize),
    BindController(usize),
    UnbindController(usize),
    /// The device does DMA by each of its streams and raises its line; its driver sees both.
    Transfer(usize),
    /// The driver allocates one more page.
    Grow(usize),
    /// The driver releases it.
    Shrink(usize),
    /// The driver maps one more buffer: how.
    Map(usize, How),
    /// It unmaps what it mapped first.
    Unmap(usize),
    UnmapAll(usize),
    /// It gives its arena back, or forgets it.
    ReleaseArena(usize),
    ForgetArena(usize),
    /// The device copies a word in the buffer that was mapped last.
    Copy(usize),
    /// The driver lends buffers for the time of a call.
    Lend(usize),
    /// The driver closes a group of resources with another one in it.
    Nest(usize),
    /// What is free is compared with what devices reach.
    Look,
    /// The driver asks for a voltage of its regulator: from and to, in microvolts.
    Ask(usize, u32, u32),
    /// The IOMMU has no memory for the next map.
    FailMap(usize),
    /// The next invalidations of the IOMMU are not confirmed: how many.
    FailFlush(usize, u32),
    /// The IOMMU refuses the next attachment of a stream.
    FailAttach(usize),
    /// The reset lines of the device cannot be asserted any more.
    StickReset(usize),
    /// The group's domains are lazy from now on.
    Lazy(usize),
    /// Nobody does anything for a second.
    Silence,
    /// The device does not stop when it is asked to, until it is at rest after its next probe.
    Jam(usize),
    /// The driver masks its line.
    Mask(usize),
    /// The driver of devices is removed, and there again.
    RemoveDriver,
    AddDriver,
    /// The pass-through owner gets the device from its driver.
    HandOver(usize),
    /// The pass-through owner binds the device.
    Give(usize),
    TakeBack(usize),
    /// A guest opens it: device and guest.
    Open(usize, usize),
    Close(usize),
    /// Its guest maps a page: device and place.
    GuestMap(usize, u64),
    GuestUnmap(usize, u64),
    /// Its guest starts a transfer, and gets the interrupt.
    GuestTransfer(usize),
}

/// Names of coverage points: of a step, and of the same step as a concurrent operation.
macro_rules! names {
    ($($step:pat => $what:literal,)*) => {
        /// Name of the coverage point: the step was taken and had its effect.
        pub(super) fn name(self) -> &'static str {
            match self { $($step => concat!("step: ", $what),)* }
        }

        /// Name of the coverage point of the same step as a concurrent operation.
        pub(super) fn concurrent_name(self) -> &'static str {
            match self { $($step => concat!("concurrent: ", $what),)* }
        }
    };
}

impl Step {
    names! {
        Self::Bind(_) => "bind",
        Self::Unbind(_) => "unbind",
        Self::Add(_) => "device is added",
        Self::Remove(_) => "device is removed",
        Self::Vanish(_) => "device vanishes",
        Self::BindIommu(_) => "IOMMU is bound",
        Self::UnbindIommu(_) => "IOMMU is unbound",
        Self::BindController(_) => "provider is bound",
        Self::UnbindController(_) => "provider is unbound",
        Self::Transfer(_) => "transfer",
        Self::Grow(_) => "memory is allocated",
        Self::Shrink(_) => "memory is released",
        Self::Map(_, How::Pages) => "three pages are mapped",
        Self::Map(_, How::List) => "a list is mapped",
        Self::Map(_, How::Adopted) => "a page of another owner is mapped",
        Self::Map(_, How::Alone) => "a page is mapped by itself",
        Self::Unmap(_) => "a buffer is unmapped",
        Self::UnmapAll(_) => "all buffers are unmapped",
        Self::ReleaseArena(_) => "the arena is given back",
        Self::ForgetArena(_) => "the arena is forgotten",
        Self::Copy(_) => "a buffer is used",
        Self::Lend(_) => "buffers are lent",
        Self::Nest(_) => "groups are nested",
        Self::Look => "what is free is looked at",
        Self::Ask(..) => "a voltage is asked for",
        Self::FailMap(_) => "a map fails",
        Self::FailFlush(..) => "invalidations are not confirmed",
        Self::FailAttach(_) => "an attachment is refused",
        Self::StickReset(_) => "reset is stuck",
        Self::Lazy(_) => "group becomes lazy",
        Self::Silence => "silence",
        Self::Jam(_) => "device does not stop",
        Self::Mask(_) => "line is masked",
        Self::RemoveDriver => "driver is removed",
        Self::AddDriver => "driver is added",
        Self::HandOver(_) => "device is handed over",
        Self::Give(_) => "device is given away",
        Self::TakeBack(_) => "device is taken back",
        Self::Open(..) => "guest opens",
        Self::Close(_) => "guest closes",
        Self::GuestMap(..) => "guest maps",
        Self::GuestUnmap(..) => "guest unmaps",
        Self::GuestTransfer(_) => "guest's transfer",
    }

    /// Text for traces.
    pub(super) fn text(self) -> String {
        let what = self.name().trim_start_matches("step: ");
        match self {
            Self::Silence | Self::Look | Self::RemoveDriver | Self::AddDriver => what.into(),
            Self::BindIommu(i)
            | Self::UnbindIommu(i)
            | Self::FailFlush(i, _)
            | Self::FailMap(i)
            | Self::FailAttach(i) => {
                format!("{}: {what}", IOMMUS[i])
            }
            Self::BindController(c) | Self::UnbindController(c) => format!("{}: {what}", CONTROLLERS[c]),
            Self::Open(d, guest) => format!("{}: {what} (guest {guest})", DEVICES[d]),
            Self::GuestMap(d, slot) | Self::GuestUnmap(d, slot) => {
                format!("{}: {what} at {}", DEVICES[d], Setup::slot(slot))
            }
            Self::Bind(d)
            | Self::Unbind(d)
            | Self::Add(d)
            | Self::Remove(d)
            | Self::Vanish(d)
            | Self::Transfer(d)
            | Self::Grow(d)
            | Self::Shrink(d)
            | Self::Map(d, _)
            | Self::Ask(d, ..)
            | Self::Unmap(d)
            | Self::UnmapAll(d)
            | Self::ReleaseArena(d)
            | Self::ForgetArena(d)
            | Self::Copy(d)
            | Self::Lend(d)
            | Self::Nest(d)
            | Self::Lazy(d)
            | Self::StickReset(d)
            | Self::Jam(d)
            | Self::Mask(d)
            | Self::HandOver(d)
            | Self::Give(d)
            | Self::TakeBack(d)
            | Self::Close(d)
            | Self::GuestTransfer(d) => format!("{}: {what}", DEVICES[d]),
        }
    }
}
