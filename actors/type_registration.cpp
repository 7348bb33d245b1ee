#include <weft/actors/answer_listener.hpp>
#include <weft/actors/interfaces.hpp>
#include <weft/actors/system_config.hpp>

#include <caf/io/middleman.hpp>
#include <caf/openssl/manager.hpp>

#include "openssl_errors.hpp"

#include <string>

namespace weft::actors {

void register_types(caf::actor_system_config& config) {
  config.add_message_types<caf::id_block::weft>();
  // A message's own field, where the gateway and the decode node are not one process.
  config.add_message_type<answer_listener>("weft::answer_listener");
  config.add_error_category(
      caf::atom("weft"), [](std::uint8_t code, caf::atom_value, const caf::message& context) {
        const std::string what{name_of(static_cast<errc>(code))};
        return context.match_elements<std::string>() ? what + ": " + context.get_as<std::string>(0) : what;
      });
}

void prepare(caf::actor_system_config& config, const tls_files& tls) {
  register_types(config);
  config.load<caf::io::middleman>();
  // Workers that look for work again and again take the time of those who have some, down to every 50 us.
  config.set("scheduler.policy", caf::atom("sharing"));
  config.set("middleman.app-identifiers", std::vector<std::string>{"weft/1"});
  if (tls.empty()) return;
  keep_errors_of_connections_apart();
  config.load<caf::openssl::manager>();
  config.openssl_certificate = tls.certificate.string();
  config.openssl_key = tls.key.string();
  config.openssl_cafile = tls.authority.string();
}

}  // namespace weft::actors
