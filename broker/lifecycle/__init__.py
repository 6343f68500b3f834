"""What happens to a job: one module a verb.  No HTTP, no Celery, no Redis commands in here."""
