#include <weft/machines/view.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

namespace weft::machines::test {

TEST_CASE("members are found by name, node and life") {
  const view v{.epoch = 3, .members = {member_of(0), member_of(1, 5)}};
  CHECK(find(v, "node-1")->ref == node(1, 5));
  CHECK(find(v, node(1).node)->name == "node-1");
  CHECK(find(v, node(1, 5)) != nullptr);
  CHECK(find(v, node(1, 4)) == nullptr);
  CHECK(find(v, "node-2") == nullptr);
}

TEST_CASE("members are listed by role") {
  const view v{.epoch = 1,
               .members = {member_of(0, 1, 0b0001), member_of(1, 1, 0b0110), member_of(2, 1, 0b0010)}};
  CHECK(with_role(v, 0) == std::vector{node(0)});
  CHECK(with_role(v, 1) == std::vector{node(1), node(2)});
  CHECK(with_role(v, 3).empty());
}

TEST_CASE("a later life of the same node counts as one gone and one joined") {
  const view before{.epoch = 1, .members = {member_of(0), member_of(1), member_of(2)}};
  const view after{.epoch = 2, .members = {member_of(0), member_of(1, 2), member_of(3)}};
  const view_difference change = difference(before, after);
  CHECK(change.gone == std::vector{node(1, 1), node(2)});
  CHECK(change.joined == std::vector{node(1, 2), node(3)});
}

}  // namespace weft::machines::test
