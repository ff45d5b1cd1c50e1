'use strict';
// Everything goes to one provider, logged in as the sender; reports, which have no sender, go to the inbox.

exports.register = function () {
  this.register_hook('get_mx', 'to_the_fakes');
};

exports.to_the_fakes = function (next, hmail, domain) {
  const sender = hmail.todo.mail_from;
  if (sender.isNull()) {
    return next(OK, { priority: 0, exchange: '127.0.0.1', port: 2526 });
  }
  next(OK, {
    priority: 0,
    exchange: '127.0.0.1',
    port: 2525,
    auth_type: 'login',
    auth_user: sender.address(),
    auth_pass: 'password',
  });
};
