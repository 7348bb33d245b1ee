#include <weft/schema/manifest.capnp.h>
#include <weft/schema/weft.capnp.h>

#include <capnp/schema.h>
#include <doctest/doctest.h>

#include "golden.hpp"

#include <set>
#include <sstream>
#include <string>

using namespace weft::schema;
using namespace weft::schema::testing;

namespace {

// One line for everything that a client of today relies on: where a field lies, which number a method has.
class layout_lines {
 public:
  void add(capnp::Schema schema) {
    if (!seen_.insert(schema.getProto().getId()).second) return;
    const std::string name = schema.getShortDisplayName().cStr();
    if (schema.getProto().isStruct()) add_struct(name, schema.asStruct());
    if (schema.getProto().isInterface()) add_interface(name, schema.asInterface());
    if (schema.getProto().isEnum())
      for (const auto e : schema.asEnum().getEnumerants())
        line(name, e.getProto().getName(), "=", e.getOrdinal());
  }

  const std::set<std::string>& lines() const { return lines_; }

 private:
  template <class... Parts>
  void line(const std::string& owner, const Parts&... parts) {
    lines_.insert(owner + " " + kj::strArray(kj::arr(kj::str(parts)...), " ").cStr());
  }

  void add_type(capnp::Type type) {
    while (type.isList())
      type = type.asList().getElementType();
    if (type.isStruct()) add(type.asStruct());
    if (type.isInterface()) add(type.asInterface());
    if (type.isEnum()) add(type.asEnum());
  }

  static kj::String type_text(capnp::Type type) {
    if (type.isList()) return kj::str("list of ", type_text(type.asList().getElementType()));
    if (type.isStruct()) return kj::str("struct ", kj::hex(type.asStruct().getProto().getId()));
    if (type.isInterface()) return kj::str("interface ", kj::hex(type.asInterface().getProto().getId()));
    return kj::str("type ", static_cast<unsigned>(type.which()));
  }

  void add_struct(const std::string& name, capnp::StructSchema schema) {
    for (const auto field : schema.getFields()) {
      const auto proto = field.getProto();
      line(name, "field", proto.getName(), "at", proto.getSlot().getOffset(), type_text(field.getType()),
           "default", proto.getSlot().getDefaultValue());
      add_type(field.getType());
    }
  }

  void add_interface(const std::string& name, capnp::InterfaceSchema schema) {
    line(name, "interface", kj::hex(schema.getProto().getId()));
    for (const auto base : schema.getSuperclasses()) {
      line(name, "extends", kj::hex(base.getProto().getId()));
      add(base);
    }
    for (const auto method : schema.getMethods()) {
      const std::string full = name + "." + method.getProto().getName().cStr();
      line(name, "method", method.getOrdinal(), method.getProto().getName(),
           method.isStreaming() ? "stream" : "call");
      add_struct(full + " parameters", method.getParamType());
      if (!method.isStreaming()) add_struct(full + " results", method.getResultType());
    }
  }

  std::set<std::uint64_t> seen_;
  std::set<std::string> lines_;
};

std::string joined(const std::set<std::string>& lines) {
  std::string text;
  for (const auto& line : lines)
    text += line + "\n";
  return text;
}

}  // namespace

TEST_CASE("nothing that a released client relies on has moved; additions are free") {
  layout_lines now;
  now.add(capnp::Schema::from<wire::Gateway>());
  now.add(capnp::Schema::from<wire::Manifest>());
  const auto file = golden_folder() / "wire_layout.txt";
  if (!std::filesystem::exists(file) && may_write_golden()) write_text(file, joined(now.lines()));
  std::istringstream released(read_text(file));
  auto count = 0;
  for (std::string line; std::getline(released, line); ++count) {
    CAPTURE(line);
    CHECK(now.lines().contains(line));
  }
  CHECK(count > 100);
}
