use super::*;
use crate::message::decode_message;
use crate::primitive::Context;
use crate::rng::Rng;
use crate::sample::Sample;

/// How many random messages of each kind and version.
const SAMPLES: u64 = 40;

fn round_trip<T: Versioned + Sample + PartialEq + std::fmt::Debug>(key: ApiKey) {
    for version in T::VERSIONS {
        let cx = Context { version, flexible: T::is_flexible(version) };
        for seed in 0..SAMPLES {
            let message = T::sample(&mut Rng::new(seed), cx);
            let mut writer = Writer::new();
            encode_message(version, &message, &mut writer).unwrap();
            let bytes = writer.finish().into_bytes();
            let decoded: T = decode_message(version, bytes)
                .unwrap_or_else(|e| panic!("{key} {version} {seed}: {e}: {message:?}"));
            assert_eq!(decoded, message, "{key} {version} {seed}");
        }
    }
}

macro_rules! each {
    ($($name:ident: $request:ident => $response:ident;)*) => {
        #[test]
        fn every_message_survives_the_wire_in_every_version() {
            $(
                round_trip::<$request>(ApiKey::$name);
                round_trip::<$response>(ApiKey::$name);
            )*
        }
    };
}

each_message!(each);
