//! One flipped bit anywhere in any file is refused.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use sluice_metadata::{Profile, RoleName, Trusted};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use support::*;

static STATE: LazyLock<Forge> = LazyLock::new(|| {
    let (mut writer, _) = init();
    let pilot = RoleName::release(&rings()[1]);
    writer.set_entries(&pilot, BTreeMap::from([patch("pilot", "a.deb", 1)])).unwrap();
    writer.set_entries(&RoleName::retractions(), BTreeMap::from([tombstone(1)])).unwrap();
    writer.commit(&keyring(), start(), LEASE).unwrap();
    Forge::of(&writer)
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_in_any_file_is_refused(file in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut forge = STATE.clone();
        let name = forge.files.keys().nth(file.index(forge.files.len())).unwrap().clone();
        let bytes = forge.files.get_mut(&name).unwrap();
        let at = byte.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(forge.verify_from_root(start()).is_err(), "{name} at {at}");
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Trusted::new(&bytes, Profile::Strict).is_err());
    }
}

#[test]
fn every_single_byte_of_the_timestamp_counts() {
    let length = STATE.files["timestamp.json"].len();
    for at in 0..length {
        for flip in [0x01, 0x20, 0x80] {
            let mut forge = STATE.clone();
            forge.files.get_mut("timestamp.json").unwrap()[at] ^= flip;
            assert!(forge.verify_from_root(start()).is_err(), "byte {at}");
        }
    }
}
