//! Interposition: an env on top of another one that changes a few of its methods.

#![forbid(unsafe_code)]

use std::sync::{Arc, Weak};

use bindery::addr::PhysAddr;
use bindery::device::DeviceDesc;
use bindery::env::{
    Env, EnvError, EventToken, Instant, Io, IrqControl, IrqLine, IrqSink, Job, Memory, PageSource, Vector,
    VectorRequest,
};
use bindery::event::Event;
use bindery::iommu::Iommu;

/// Changes of an env. Each method forwards to [`inner`](Self::inner) unless it is overridden; [`env`](Self::env) makes an
/// [`Env`] of them.
pub trait Interpose: Send + Sync {
    /// The env with these changes, to make a machine on.
    fn env(self: &Arc<Self>) -> Arc<dyn Env>
    where
        Self: Sized + 'static,
    {
        Arc::new(Interposed(Arc::clone(self)))
    }

    /// The env below.
    fn inner(&self) -> &dyn Env;

    /// As [`Env::map_io`].
    ///
    /// # Errors
    ///
    /// As [`Env::map_io`].
    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        self.inner().map_io(base, len)
    }

    /// As [`Env::irq`].
    ///
    /// # Errors
    ///
    /// As [`Env::irq`].
    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        self.inner().irq(line, control)
    }

    /// As [`Env::alloc_vectors`].
    ///
    /// # Errors
    ///
    /// As [`Env::alloc_vectors`].
    fn alloc_vectors(&self, request: &VectorRequest<'_>) -> Result<Vec<Vector>, EnvError> {
        self.inner().alloc_vectors(request)
    }

    /// As [`Env::connect`].
    fn connect(&self, sink: Weak<dyn IrqSink>) {
        self.inner().connect(sink);
    }

    /// As [`Env::now`].
    fn now(&self) -> Instant {
        self.inner().now()
    }

    /// As [`Env::wait`].
    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        self.inner().wait(token, until);
    }

    /// As [`Env::spawn`].
    ///
    /// # Errors
    ///
    /// As [`Env::spawn`].
    fn spawn(&self, job: Job) -> Result<(), Job> {
        self.inner().spawn(job)
    }
}

/// The env with the changes of `T`.
struct Interposed<T>(Arc<T>);

impl<T: Interpose> Env for Interposed<T> {
    fn alloc_vectors(&self, request: &VectorRequest<'_>) -> Result<Vec<Vector>, EnvError> {
        self.0.alloc_vectors(request)
    }

    fn free_vectors(&self, device: &DeviceDesc, vectors: &[Vector]) {
        self.0.inner().free_vectors(device, vectors);
    }

    fn memory(&self) -> Arc<dyn Memory> {
        self.0.inner().memory()
    }

    fn page_source(&self) -> Option<Arc<dyn PageSource>> {
        self.0.inner().page_source()
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        self.0.map_io(base, len)
    }

    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        self.0.irq(line, control)
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        self.0.connect(sink);
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        self.0.wait(token, until);
    }

    fn spawn(&self, job: Job) -> Result<(), Job> {
        self.0.spawn(job)
    }

    fn cpu(&self) -> usize {
        self.0.inner().cpu()
    }

    fn tracing_enabled(&self) -> bool {
        self.0.inner().tracing_enabled()
    }

    fn emit(&self, event: &Event) {
        self.0.inner().emit(event);
    }

    fn env_owned(&self, compatible: &[Arc<str>]) -> bool {
        self.0.inner().env_owned(compatible)
    }

    fn host_iommu(&self, device: &DeviceDesc) -> Option<Arc<dyn Iommu>> {
        self.0.inner().host_iommu(device)
    }
}
