//! The README's first command on this machine.

use e2e::Installation;
use e2e::quickstart::learn_and_serve;

#[test]
fn the_flights_are_learnt_and_served() {
    let installation = Installation::start(&[("MOONSHOT_NODES", "2")]);
    learn_and_serve(&installation);
}
