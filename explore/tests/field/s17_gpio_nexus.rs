//! A reference through a nexus (`gpio-map`).
use super::dma::*;
use bindery::binding::Bound;
use bindery::driver::*;

struct Led;
impl Driver for Led {
    const NAME: &'static str = "acme_led";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,led")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}
struct Gpio;
impl Driver for Gpio {
    const NAME: &'static str = "acme_gpio";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,gpio")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn the_controller_behind_the_socket_is_the_supplier() {
    let r = rig_with(Default::default(), include_bytes!("trees/s17_gpio_nexus.dtb"));
    r.machine.register(Led);
    r.machine.register(Gpio);
    r.machine.settle();
    println!(
        "gpio {:?}, led {:?}, led2 {:?}; waiting {:?}",
        r.driver("10000.gpio"),
        r.driver("led"),
        r.driver("led2"),
        r.machine.waiting()
    );
    assert_eq!(
        (r.driver("led"), r.driver("led2")),
        (Some("acme_led"), Some("acme_led")),
        "they wait for a socket that nobody drives"
    );
}
