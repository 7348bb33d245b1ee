# 128-bit identities: block keys, document ids, model fingerprints.
@0x8885d3879bfb3367;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("weft::schema::wire");

struct Id128 {
  high @0 :UInt64;
  low @1 :UInt64;
}
