# Mail that ends on this machine.
target_sources(postrider_delivery PRIVATE
  local/account.cc local/address_book.cc local/address_list.cc local/command.cc local/command_group.cc local/command_exit.cc local/command_process.cc
  local/expander.cc local/forwarded_sender.cc local/included_file.cc local/settled_file.cc local/leaf.cc
  local/local_content.cc local/local_delivery.cc local/local_directory.cc local/local_file.cc
  local/mailbox_pattern.cc local/maildir.cc local/maildir_quota.cc local/mbox.cc local/mbox_lock.cc
  local/onward.cc local/performer.cc local/preview.cc local/process_tree.cc local/source.cc local/target.cc local/target_codec.cc)
