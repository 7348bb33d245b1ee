#include <weft/schema/rpc_error.hpp>

#include <doctest/doctest.h>
#include <kj/string.h>

using namespace weft;
using namespace weft::schema;

TEST_CASE("every error comes back as it went, through any number of vats") {
  for (auto i = static_cast<unsigned>(errc::invalid_argument); i <= static_cast<unsigned>(errc::internal);
       ++i) {
    const error e{static_cast<errc>(i), "document 'a: b' is gone; try c"};
    const auto there = to_exception(e);
    const kj::Exception relayed(there.getType(), "", 0,
                                kj::str("remote exception: remote exception: ", there.getDescription()));
    for (const auto* seen : {&there, &relayed}) {
      const auto back = from_exception(*seen);
      CHECK(back.code == e.code);
      CHECK(back.context == e.context);
    }
  }
}

TEST_CASE("exceptions of others get the code of their type") {
  const auto code = [](kj::Exception::Type type) {
    return from_exception(kj::Exception(type, "", 0, kj::str("peer disconnected"))).code;
  };
  CHECK(code(kj::Exception::Type::FAILED) == errc::internal);
  CHECK(code(kj::Exception::Type::OVERLOADED) == errc::overloaded);
  CHECK(code(kj::Exception::Type::DISCONNECTED) == errc::unreachable);
  CHECK(code(kj::Exception::Type::UNIMPLEMENTED) == errc::unsupported);
}

TEST_CASE("a text that merely looks like an error keeps all of it") {
  const kj::Exception e(kj::Exception::Type::FAILED, "", 0, kj::str("bind: Address already in use"));
  CHECK(from_exception(e).context == "bind: Address already in use");
}
