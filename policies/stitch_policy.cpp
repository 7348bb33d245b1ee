#include <weft/base/shortest_decimal.hpp>
#include <weft/policies/stitch_policy.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <system_error>

namespace weft::policies {

namespace {

constexpr std::uint32_t whole_millionths = 1'000'000;
constexpr std::uint32_t default_share_millionths = 150'000;

struct named_policy {
  std::string_view name;
  std::string_view usage;
  std::size_t most_parameters = 0;
  stitch_policy defaults;
};

constexpr std::array<named_policy, 6> named_policies{{
    {"none", "none", 0, stitch_policy::none},
    {"link", "link(K)", 1, {.kind = stitch_kind::link, .tokens = 5}},
    {"epic", "epic(k)", 1, {.kind = stitch_kind::epic, .tokens = 16}},
    {"blend",
     "blend(r,layer)",
     2,
     {.kind = stitch_kind::blend, .share_millionths = default_share_millionths, .layer = 1}},
    {"random",
     "random(r,seed)",
     2,
     {.kind = stitch_kind::random, .share_millionths = default_share_millionths}},
    {"full", "full", 0, stitch_policy::full},
}};

std::string supported() {
  std::string usages;
  for (const named_policy& known : named_policies)
    usages += (usages.empty() ? "" : ", ") + std::string{known.usage};
  return usages;
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

std::vector<std::string_view> parameters_of(std::string_view inside) {
  std::vector<std::string_view> found;
  while (true) {
    const auto comma = inside.find(',');
    found.push_back(trimmed(inside.substr(0, comma)));
    if (comma == std::string_view::npos) return found;
    inside.remove_prefix(comma + 1);
  }
}

template <class Number>
bool read_number(std::string_view text, Number& number) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  return failure == std::errc{} && end == text.data() + text.size();
}

bool read_share(std::string_view text, std::uint32_t& millionths) {
  double share = 0;
  if (!read_number(text, share)) return false;
  const auto found = share_millionths_of(share);
  if (found) millionths = *found;
  return found.has_value();
}

bool read_parameter(stitch_policy& policy, std::size_t index, std::string_view text) {
  switch (policy.kind) {
    case stitch_kind::link:
    case stitch_kind::epic:
      return read_number(text, policy.tokens);
    case stitch_kind::blend:
      return index == 0 ? read_share(text, policy.share_millionths) : read_number(text, policy.layer);
    case stitch_kind::random:
      return index == 0 ? read_share(text, policy.share_millionths) : read_number(text, policy.seed);
    case stitch_kind::none:
    case stitch_kind::full:
      break;
  }
  return false;
}

tl::unexpected<error> wrong_parameters(std::string_view name) {
  return fail(errc::invalid_argument,
              "stitch policy `" + std::string{name} + "` has wrong parameters; supported: " + supported() +
                  ", where K, k and layer are whole numbers and r is a share from 0 to 1");
}

std::string decimal(std::uint32_t millionths) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%u.%06u", millionths / whole_millionths,
                millionths % whole_millionths);
  std::string shown = text.data();
  shown.erase(shown.find_last_not_of('0') + 1);
  if (shown.back() == '.') shown.pop_back();
  return shown;
}

}  // namespace

stitch_policy stitch_policy::link(std::uint32_t tokens) {
  return {.kind = stitch_kind::link, .tokens = tokens};
}

stitch_policy stitch_policy::epic(std::uint32_t tokens) {
  return {.kind = stitch_kind::epic, .tokens = tokens};
}

stitch_policy stitch_policy::blend(std::uint32_t share_millionths, std::uint32_t layer) {
  return {.kind = stitch_kind::blend, .share_millionths = share_millionths, .layer = layer};
}

stitch_policy stitch_policy::random(std::uint32_t share_millionths, std::uint64_t seed) {
  return {.kind = stitch_kind::random, .share_millionths = share_millionths, .seed = seed};
}

std::string name_of(const stitch_policy& policy) {
  std::string name{named_policies[static_cast<std::size_t>(policy.kind)].name};
  switch (policy.kind) {
    case stitch_kind::link:
    case stitch_kind::epic:
      return name + "(" + std::to_string(policy.tokens) + ")";
    case stitch_kind::blend:
      return name + "(" + decimal(policy.share_millionths) + "," + std::to_string(policy.layer) + ")";
    case stitch_kind::random:
      return name + "(" + decimal(policy.share_millionths) + "," + std::to_string(policy.seed) + ")";
    case stitch_kind::none:
    case stitch_kind::full:
      break;
  }
  return name;
}

result<stitch_policy> stitch_policy_from_name(std::string_view name) {
  const auto bracket = name.find('(');
  const std::string_view base = name.substr(0, bracket);
  for (const named_policy& known : named_policies) {
    if (known.name != base) continue;
    stitch_policy policy = known.defaults;
    if (bracket == std::string_view::npos) return policy;
    if (name.back() != ')') return wrong_parameters(name);
    const auto parameters = parameters_of(name.substr(bracket + 1, name.size() - bracket - 2));
    if (parameters.size() > known.most_parameters) return wrong_parameters(name);
    for (std::size_t i = 0; i < parameters.size(); ++i)
      if (!read_parameter(policy, i, parameters[i])) return wrong_parameters(name);
    return policy;
  }
  return fail(errc::unsupported, "no stitch policy `" + std::string{name} + "`; supported: " + supported());
}

std::vector<std::string> split_policy_names(std::string_view list) {
  std::vector<std::string> names(1);
  int depth = 0;
  for (const char c : list) {
    if (c == '(') ++depth;
    if (c == ')') --depth;
    if (c == ',' && depth == 0)
      names.emplace_back();
    else
      names.back() += c;
  }
  return names;
}

result<std::uint32_t> share_millionths_of(double share) {
  if (!(share >= 0 && share <= 1))
    return fail(errc::invalid_argument, "a share of " + shortest_decimal(share) + " is not from 0 to 1");
  return static_cast<std::uint32_t>(std::llround(share * whole_millionths));
}

std::uint64_t rows_of_share(std::uint64_t rows, std::uint32_t share_millionths) {
  return (2 * rows * share_millionths + whole_millionths) / (2 * std::uint64_t{whole_millionths});
}

}  // namespace weft::policies
