#include <weft/policies/stitch_policy.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace weft;
using namespace weft::policies;

namespace {

stitch_policy named(const std::string& name) {
  const auto policy = stitch_policy_from_name(name);
  REQUIRE_MESSAGE(policy.has_value(), name << ": " << policy.error().context);
  return *policy;
}

}  // namespace

TEST_CASE("policies are found by name, with the parameters of their papers where none are given") {
  CHECK(named("none") == stitch_policy::none);
  CHECK(named("full") == stitch_policy::full);
  CHECK(named("link") == stitch_policy::link(5));
  CHECK(named("epic") == stitch_policy::epic(16));
  CHECK(named("blend") == stitch_policy::blend(150'000, 1));
  CHECK(named("random") == stitch_policy::random(150'000, 0));
}

TEST_CASE("parameters stand in brackets and may be left out from the back") {
  CHECK(named("link(0)") == stitch_policy::link(0));
  CHECK(named("epic(4)") == stitch_policy::epic(4));
  CHECK(named("blend(0.29)") == stitch_policy::blend(290'000, 1));
  CHECK(named("blend(1, 3)") == stitch_policy::blend(1'000'000, 3));
  CHECK(named("random( 0.5 , 18446744073709551615)") == stitch_policy::random(500'000, ~0ULL));
}

TEST_CASE("a policy's name reads back as the policy") {
  for (const char* name : {"none", "full", "link(5)", "epic(16)", "blend(0.15,1)", "blend(1,0)",
                           "random(0,7)", "random(0.000001,0)"}) {
    CHECK(name_of(named(name)) == name);
    CHECK(named(name_of(named(name))) == named(name));
  }
}

TEST_CASE("what is no policy is refused with the list of what there is") {
  for (const char* name : {"", "None", "full ", "kvlink", "blend2(0.1)", "nonsense(1)"}) {
    CAPTURE(name);
    const auto refused = stitch_policy_from_name(name);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::unsupported);
    CHECK(refused.error().context.find("none, link(K), epic(k), blend(r,layer)") != std::string::npos);
  }
  for (const char* name : {"none(1)", "none()", "full(0)", "epic()", "epic(-1)", "epic(1.5)", "epic(16",
                           "epic(16))", "epic(1,2)", "epic(x)", "blend(1.01)", "blend(nan)", "blend(-0.1)",
                           "blend(0.1,1,2)", "blend(,1)", "random(0.1,-1)", "link(99999999999)"}) {
    CAPTURE(name);
    const auto refused = stitch_policy_from_name(name);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::invalid_argument);
    CHECK(refused.error().context.find(name) != std::string::npos);
    CHECK(refused.error().context.find('\n') == std::string::npos);
  }
}

TEST_CASE("a list of policies is cut between them, not inside of them") {
  CHECK(split_policy_names("none,blend(0.15,1),epic") ==
        std::vector<std::string>{"none", "blend(0.15,1)", "epic"});
  CHECK(split_policy_names("full") == std::vector<std::string>{"full"});
  CHECK(split_policy_names("a,,b") == std::vector<std::string>{"a", "", "b"});
}

TEST_CASE("shares of rows are rounded as decimals") {
  CHECK(rows_of_share(100, 290'000) == 29);
  CHECK(rows_of_share(10, 150'000) == 2);
  CHECK(rows_of_share(9, 150'000) == 1);
  CHECK(rows_of_share(3, 500'000) == 2);
  CHECK(rows_of_share(7, 0) == 0);
  CHECK(rows_of_share(4'000'000'000, 1'000'000) == 4'000'000'000);
  CHECK(share_millionths_of(0.15).value() == 150'000);
  CHECK(!share_millionths_of(1.0001));
  CHECK(!share_millionths_of(-1e-9));
}
