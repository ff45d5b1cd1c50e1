-- KumoMTA in front of the fakes. NOT RUN by the tests: written from docs.kumomta.com (make_egress_path, prohibited_hosts,
-- enable_tls, configure_resolver, get_queue_config). It goes to /opt/kumomta/etc/policy/init.lua.
--   sendlab serve google-mx microsoft-mx generic-mx --host 127.53.0.1 --dns-port 5353 --port 2525 --ledger served.jsonl

local kumo = require 'kumo'

kumo.on('init', function()
  kumo.define_spool { name = 'data', path = '/var/spool/kumomta/data' }
  kumo.define_spool { name = 'meta', path = '/var/spool/kumomta/meta' }
  kumo.configure_local_logs { log_dir = '/var/log/kumomta' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:25', relay_hosts = { '127.0.0.0/8' } }
  -- a resolver with a port: /etc/resolv.conf stays as it is
  kumo.dns.configure_resolver { name_servers = { '127.53.0.1:5353' } }
end)

kumo.on('get_egress_path_config', function(routing_domain, egress_source, site_name)
  return kumo.make_egress_path {
    smtp_port = 2525,
    -- KumoMTA takes loopback addresses for a mail loop
    prohibited_hosts = {},
    -- the certificate is the fakes' own
    enable_tls = 'OpportunisticInsecure',
    enable_mta_sts = false,
    -- your shaping, which is what you are testing: see also policy-extras.shaping
    connection_limit = 5,
    max_deliveries_per_connection = 50,
  }
end)

-- To submit to a provider instead, by AUTH PLAIN, one user for all (sparkpost; office365 offers LOGIN and tokens only), as
-- `sendlab serve sparkpost generic-mx --host 127.53.0.1 --dns-port 5353 --port 2525` knows it: add to the path of
-- smtp.sparkpostmail.com
--   enable_tls = 'RequiredInsecure',
--   smtp_auth_plain_username = 'SMTP_Injection',
--   smtp_auth_plain_password = { key_data = 'password' },
--   (builds that have it) allow_smtp_auth_plain_without_valid_certificate = true,
-- and send everything there:
--   kumo.on('get_queue_config', function(domain, tenant, campaign, routing_domain)
--     return kumo.make_queue_config { protocol = { smtp = { mx_list = { 'smtp.sparkpostmail.com' } } } }
--   end)
