# Mail that ends on this machine.
target_sources(postrider_delivery PRIVATE
  local/agents/account.cc local/addresses/local_addresses.cc local/addresses/address_list.cc local/agents/pipe_command.cc local/agents/command_group.cc local/agents/command_exit.cc local/agents/command_process.cc
  local/addresses/alias_doubts.cc local/addresses/expander.cc local/addresses/forwarded_sender.cc local/addresses/included_file.cc local/agents/settled_file.cc local/addresses/resolved_recipient.cc
  local/agents/local_content.cc local/local_delivery.cc local/local_directory.cc local/agents/local_file.cc
  local/agents/mailbox_pattern.cc local/agents/maildir.cc local/agents/maildir_quota.cc local/agents/mbox.cc local/agents/mbox_lock.cc
  local/forward_seal.cc local/onward.cc local/agents/delivery_agent.cc local/addresses/preview.cc local/agents/process_tree.cc local/addresses/alias_source.cc local/agents/local_target.cc local/agents/local_target_codec.cc)
