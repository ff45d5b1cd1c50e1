"""What `sendlab load` runs, and a way in for whoever knows Locust: ``locust -f loadtests/locustfile.py --plan DIR``."""

from loadtests.user import SmtpUser, UntilDone

__all__ = ["Sender", "UntilDone"]


class Sender(SmtpUser):
    """Sends the plan's messages as they are."""
