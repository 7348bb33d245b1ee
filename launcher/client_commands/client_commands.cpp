#include <weft/launcher/client_commands.hpp>

#include "commands.hpp"

namespace weft::launcher {

void add_client_commands(CLI::App& app, command_context& context) {
  add_ingest_command(app, context);
  add_document_commands(app, context);
  add_block_commands(app, context);
  add_ask_command(app, context);
  add_status_command(app, context);
}

}  // namespace weft::launcher
