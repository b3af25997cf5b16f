#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""probe.py URL ACCESS SECRET [region]  -> one line per check"""
import sys, hashlib, time, os, http.client, urllib.parse
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
url, ak, sk = sys.argv[1:4]; region = sys.argv[4] if len(sys.argv) > 4 else 'us-east-1'
cfg = Config(signature_version='s3v4', s3={'addressing_style': 'path'}, retries={'max_attempts': 0}, read_timeout=30)
def cl(a, s): return boto3.client('s3', endpoint_url=url, aws_access_key_id=a, aws_secret_access_key=s, region_name=region, config=cfg)
c = cl(ak, sk)
B = 'p%d' % int(time.time())
res = []
def code(f):
    try: f(); return 200
    except ClientError as e: return '%s %s' % (e.response['ResponseMetadata']['HTTPStatusCode'], e.response['Error']['Code'])
    except Exception as e: return 'EXC %s %s' % (type(e).__name__, str(e)[:90])
def chk(name, f):
    try: r = f()
    except ClientError as e: r = 'FAIL %s %s' % (e.response['ResponseMetadata']['HTTPStatusCode'], e.response['Error']['Code'])
    except AssertionError as e: r = 'FAIL assert %s' % str(e)[:150]
    except Exception as e: r = 'FAIL EXC %s %s' % (type(e).__name__, str(e)[:110])
    if r is None or r is True: r = 'ok'
    print('%-26s %s' % (name, r), flush=True)
def raw(method, path, headers=None, body=b'', sign=True):
    """path is the exact on-the-wire path+query; returns status, headers, body"""
    u = urllib.parse.urlsplit(url); h = dict(headers or {})
    req = AWSRequest(method=method, url=url + path, data=body, headers=h)
    if sign:
        from botocore.auth import S3SigV4Auth
        req.headers['x-amz-content-sha256'] = hashlib.sha256(body).hexdigest()
        S3SigV4Auth(Credentials(ak, sk), 's3', region).add_auth(req)
    k = http.client.HTTPConnection(u.hostname, u.port, timeout=20)
    k.putrequest(method, path, skip_accept_encoding=True)
    for a, b in req.headers.items(): k.putheader(a, b)
    if body or method in ('PUT', 'POST'): k.putheader('Content-Length', str(len(body)))
    k.endheaders(); k.send(body) if body else None
    r = k.getresponse(); d = r.read(); return r.status, dict((x.lower(), y) for x, y in r.getheaders()), d
chk('create-bucket', lambda: c.create_bucket(Bucket=B) and None)
D = os.urandom(3 * 1024 * 1024 + 17); M = hashlib.md5(D).hexdigest()
def put():
    e = c.put_object(Bucket=B, Key='obj', Body=D, Metadata={'foo': 'bar', 'Mixed-Case': 'V 1'}, ContentType='text/x-odd', CacheControl='max-age=7', ContentEncoding='x-enc', ContentDisposition='inline')['ETag'].strip('"')
    return 'etag=md5' if e == M else 'etag is not md5: ' + e
chk('put-etag', put)
def get():
    g = c.get_object(Bucket=B, Key='obj'); assert g['Body'].read() == D
    m = []
    if g['ETag'].strip('"') != M: m.append('etag')
    for a, b in (('ContentType', 'text/x-odd'), ('CacheControl', 'max-age=7'), ('ContentEncoding', 'x-enc'), ('ContentDisposition', 'inline')):
        if g.get(a) != b: m.append('%s=%r' % (a, g.get(a)))
    if g['Metadata'].get('foo') != 'bar' or {k.lower(): v for k, v in g['Metadata'].items()}.get('mixed-case') != 'V 1': m.append('meta %r' % g['Metadata'])
    return 'ok' if not m else 'body ok; differs: ' + '; '.join(m)
chk('get+headers+usermeta', get)
chk('sig-wrong-secret', lambda: code(lambda: cl(ak, 'x' * 40).get_object(Bucket=B, Key='obj')))
chk('sig-unknown-key', lambda: code(lambda: cl('NOSUCHKEY', sk).get_object(Bucket=B, Key='obj')))
chk('anonymous-get', lambda: str(raw('GET', '/%s/obj' % B, sign=False)[0]))
def presign(secret):
    p = cl(ak, secret).generate_presigned_url('get_object', Params={'Bucket': B, 'Key': 'obj'}, ExpiresIn=60)
    s = urllib.parse.urlsplit(p); k = http.client.HTTPConnection(s.hostname, s.port, timeout=20); k.request('GET', s.path + '?' + s.query); r = k.getresponse(); r.read(); return r.status
chk('presigned good/bad', lambda: '%s/%s' % (presign(sk), presign('y' * 40)))
def badsha():
    from botocore.auth import S3SigV4Auth
    u = urllib.parse.urlsplit(url); req = AWSRequest(method='PUT', url=url + '/%s/sha' % B, data=b'other', headers={})
    S3SigV4Auth(Credentials(ak, sk), 's3', region).add_auth(req)
    k = http.client.HTTPConnection(u.hostname, u.port, timeout=20); k.request('PUT', '/%s/sha' % B, body=b'hello', headers=dict(req.headers.items())); r = k.getresponse(); d = r.read(); return '%d %s; object then: %s' % (r.status, d[d.find(b'<Code>'):d.find(b'</Code>')].decode()[6:], code(lambda: c.head_object(Bucket=B, Key='sha')))
chk('payload-sha-mismatch', badsha)
chk('bad-content-md5', lambda: code(lambda: c.put_object(Bucket=B, Key='md5', Body=b'x', ContentMD5='AAAAAAAAAAAAAAAAAAAAAA==')))
def rng():
    o = []
    for s, want in (('bytes=0-0', D[:1]), ('bytes=5-1004', D[5:1005]), ('bytes=3145728-', D[3145728:]), ('bytes=-10', D[-10:]), ('bytes=3145740-9999999', D[3145740:])):
        g = c.get_object(Bucket=B, Key='obj', Range=s); b = g['Body'].read()
        if b != want or g['ResponseMetadata']['HTTPStatusCode'] != 206 or 'ContentRange' not in g: o.append(s)
    r = code(lambda: c.get_object(Bucket=B, Key='obj', Range='bytes=99999999-'))
    return ('ok' if not o else 'bad ' + ','.join(o)) + '; past-end ' + str(r)
chk('range', rng)
E = '"%s"' % M
import datetime
def cond():
    t0 = c.head_object(Bucket=B, Key='obj')['LastModified']; e = c.head_object(Bucket=B, Key='obj')['ETag']
    f = lambda **k: str(code(lambda: c.get_object(Bucket=B, Key='obj', **k))).split()[0]
    h = lambda **k: str(code(lambda: c.head_object(Bucket=B, Key='obj', **k))).split()[0]
    d = datetime.timedelta(hours=1)
    got = dict(im=f(IfMatch=e), imbad=f(IfMatch='"0"'), inm=f(IfNoneMatch=e), inmother=f(IfNoneMatch='"0"'), ims=f(IfModifiedSince=t0 + d) if t0 + d < datetime.datetime.now(datetime.timezone.utc) else f(IfModifiedSince=t0), ius=f(IfUnmodifiedSince=t0 - d), h_imbad=h(IfMatch='"0"'), h_inm=h(IfNoneMatch=e), star=f(IfNoneMatch='*'))
    want = dict(im='200', imbad='412', inm='304', inmother='200', ims='304', ius='412', h_imbad='412', h_inm='304', star='304')
    bad = {k: v for k, v in got.items() if v != want[k]}
    return 'ok' if not bad else 'differs %s' % bad
chk('cond-get/head', cond)
def condput():
    o = {}
    c.put_object(Bucket=B, Key='cp', Body=b'1'); e = c.head_object(Bucket=B, Key='cp')['ETag']
    o['inm*exists'] = str(code(lambda: c.put_object(Bucket=B, Key='cp', Body=b'2', IfNoneMatch='*'))).split()[0]
    o['inm*new'] = str(code(lambda: c.put_object(Bucket=B, Key='cpnew', Body=b'2', IfNoneMatch='*'))).split()[0]
    o['im-bad'] = str(code(lambda: c.put_object(Bucket=B, Key='cp', Body=b'2', IfMatch='"00"'))).split()[0]
    e = c.head_object(Bucket=B, Key='cp')['ETag']
    o['im-ok'] = str(code(lambda: c.put_object(Bucket=B, Key='cp', Body=b'3', IfMatch=e))).split()[0]
    o['im-missing'] = str(code(lambda: c.put_object(Bucket=B, Key='cpmiss', Body=b'3', IfMatch='"00"'))).split()[0]
    w = {'inm*exists': '412', 'inm*new': '200', 'im-bad': '412', 'im-ok': '200', 'im-missing': '404'}
    bad = {k: v for k, v in o.items() if v != w[k]}; return 'ok' if not bad else 'differs %s' % bad
chk('cond-put', condput)
def conddel():
    c.put_object(Bucket=B, Key='cd', Body=b'1')
    a = str(code(lambda: c.delete_object(Bucket=B, Key='cd', IfMatch='"00"'))).split()[0]; return 'ok' if a == '412' else 'differs if-match-bad=%s' % a
chk('cond-delete', conddel)
def lst():
    ks = ['l/%03d/x%d' % (i, j) for i in range(40) for j in range(2)] + ['l/z%d' % i for i in range(15)]
    for k in ks: c.put_object(Bucket=B, Key=k, Body=b'q')
    pre, keys, tok, n = [], [], None, 0
    while True:
        a = dict(Bucket=B, Prefix='l/', Delimiter='/', MaxKeys=7)
        if tok: a['ContinuationToken'] = tok
        r = c.list_objects_v2(**a); n += 1
        got = [x['Key'] for x in r.get('Contents', [])]; gp = [x['Prefix'] for x in r.get('CommonPrefixes', [])]
        assert len(got) + len(gp) <= 7 and r['KeyCount'] == len(got) + len(gp), 'page %r' % r.get('KeyCount')
        keys += got; pre += gp
        if not r['IsTruncated']: break
        tok = r['NextContinuationToken']; assert n < 50
    assert pre == ['l/%03d/' % i for i in range(40)], 'prefixes %d' % len(pre); assert keys == ['l/z%d' % i for i in sorted(range(15), key=str)], keys
    al = []; 
    for p in c.get_paginator('list_objects_v2').paginate(Bucket=B, Prefix='l/', PaginationConfig={'PageSize': 10}): al += [x['Key'] for x in p.get('Contents', [])]
    assert al == sorted(ks), 'flat'
    r = c.list_objects_v2(Bucket=B, Prefix='l/', StartAfter='l/z3'); assert [x['Key'] for x in r['Contents']][0] == 'l/z4'
    r = c.list_objects(Bucket=B, Prefix='l/', Delimiter='/', MaxKeys=5); assert r['IsTruncated'] and r.get('NextMarker'), 'v1 marker'
    r = c.list_objects_v2(Bucket=B, Prefix='l/', MaxKeys=0); assert r['KeyCount'] == 0
    return 'ok (%d pages)' % n
chk('listv2', lst)
def mp(metalen=None):
    u = c.create_multipart_upload(Bucket=B, Key='mp', Metadata={'m': '1'})['UploadId']; P = [os.urandom(5 << 20), os.urandom(5 << 20), os.urandom(1000)]; e = []
    for i, p in enumerate(P, 1): e.append({'PartNumber': i, 'ETag': c.upload_part(Bucket=B, Key='mp', UploadId=u, PartNumber=i, Body=p)['ETag']})
    assert len(c.list_parts(Bucket=B, Key='mp', UploadId=u)['Parts']) == 3
    assert len(c.list_multipart_uploads(Bucket=B).get('Uploads', [])) == 1
    r = c.complete_multipart_upload(Bucket=B, Key='mp', UploadId=u, MultipartUpload={'Parts': e}); g = c.get_object(Bucket=B, Key='mp'); assert g['Body'].read() == b''.join(P), 'body'
    want = hashlib.md5(b''.join(hashlib.md5(p).digest() for p in P)).hexdigest() + '-3'; o = []
    if r['ETag'].strip('"') != want: o.append('etag ' + r['ETag'])
    if g['Metadata'] != {'m': '1'}: o.append('meta')
    try:
        g = c.get_object(Bucket=B, Key='mp', PartNumber=2); b = g['Body'].read()
        if b != P[1]: o.append('partNumber get len %d' % len(b))
        elif g.get('PartsCount') != 3: o.append('PartsCount %r' % g.get('PartsCount'))
    except ClientError as x: o.append('partNumber get ' + x.response['Error']['Code'])
    u = c.create_multipart_upload(Bucket=B, Key='mpa')['UploadId']; c.upload_part(Bucket=B, Key='mpa', UploadId=u, PartNumber=1, Body=b'x'); c.abort_multipart_upload(Bucket=B, Key='mpa', UploadId=u)
    if c.list_multipart_uploads(Bucket=B).get('Uploads'): o.append('abort left upload')
    return 'ok' if not o else 'differs ' + '; '.join(o)
chk('multipart', mp)
def upc():
    u = c.create_multipart_upload(Bucket=B, Key='upc')['UploadId']
    a = c.upload_part_copy(Bucket=B, Key='upc', UploadId=u, PartNumber=1, CopySource={'Bucket': B, 'Key': 'mp'}, CopySourceRange='bytes=100-%d' % (99 + (5 << 20)))['CopyPartResult']['ETag']
    b = c.upload_part_copy(Bucket=B, Key='upc', UploadId=u, PartNumber=2, CopySource={'Bucket': B, 'Key': 'obj'})['CopyPartResult']['ETag']
    c.complete_multipart_upload(Bucket=B, Key='upc', UploadId=u, MultipartUpload={'Parts': [{'PartNumber': 1, 'ETag': a}, {'PartNumber': 2, 'ETag': b}]})
    x = c.get_object(Bucket=B, Key='mp')['Body'].read(); assert c.get_object(Bucket=B, Key='upc')['Body'].read() == x[100:100 + (5 << 20)] + D, 'body'
chk('upload-part-copy', upc)
def cpy():
    c.copy_object(Bucket=B, Key='cpo', CopySource={'Bucket': B, 'Key': 'obj'}); h = c.head_object(Bucket=B, Key='cpo'); o = []
    if h['ETag'].strip('"') != M: o.append('etag')
    if h['Metadata'].get('foo') != 'bar': o.append('meta %r' % h['Metadata'])
    if h['ContentType'] != 'text/x-odd': o.append('ctype')
    c.copy_object(Bucket=B, Key='cpo', CopySource={'Bucket': B, 'Key': 'obj'}, MetadataDirective='REPLACE', Metadata={'n': 'w'}); h = c.head_object(Bucket=B, Key='cpo')
    if h['Metadata'] != {'n': 'w'}: o.append('replace %r' % h['Metadata'])
    return 'ok' if not o else 'differs ' + '; '.join(o)
chk('copy-object', cpy)
def dels():
    for i in range(5): c.put_object(Bucket=B, Key='d/%d' % i, Body=b'1')
    r = c.delete_objects(Bucket=B, Delete={'Objects': [{'Key': 'd/%d' % i} for i in range(5)] + [{'Key': 'd/none'}]}); assert len(r.get('Deleted', [])) == 6 and not r.get('Errors'), str({k: v for k, v in r.items() if k != 'ResponseMetadata'})
    assert c.list_objects_v2(Bucket=B, Prefix='d/')['KeyCount'] == 0
    r = c.delete_objects(Bucket=B, Delete={'Quiet': True, 'Objects': [{'Key': 'x'}]}); assert not r.get('Deleted'), 'quiet'
chk('delete-objects', dels)
for name, k in (('key a//b', 'k/a//b'), ('key a/ (empty)', 'k/dir/'), ('key unicode', 'k/ü日本😀'), ('key a+b', 'k/a+b c'), ('key %', 'k/100%25%2F%'), ('key odd punct', "k/!-_.*'()&$@=;:,?#[]{}^~|\\\"<>`"), ('key ctrl \\x01', 'k/c\x01t\tz'), ('key .. segment', 'k/../e'), ('key . segment', 'k/./e'), ('key /lead', '/lead'), ('key 900 bytes seg', 'k/' + 'n' * 900), ('key 240 bytes seg', 'k/' + 'n' * 240), ('key NFC/NFD', 'k/e\u0301')):
    def f(k=k):
        b = b'' if k.endswith('/') else k.encode(); c.put_object(Bucket=B, Key=k, Body=b); assert c.get_object(Bucket=B, Key=k)['Body'].read() == b, 'body'
        ks = []; 
        for p in c.get_paginator('list_objects_v2').paginate(Bucket=B, Prefix='k/' if k[0] != '/' else '/'): ks += [x['Key'] for x in p.get('Contents', [])]
        assert k in ks, 'not listed; like: %r' % [x for x in ks if x[:3] == k[:3]][:3]
        c.delete_object(Bucket=B, Key=k); assert str(code(lambda: c.head_object(Bucket=B, Key=k))).startswith('404'), 'not deleted'
    chk(name, f)
def dirobj():
    c.put_object(Bucket=B, Key='k2/dir/', Body=b'data in dir object'); assert c.get_object(Bucket=B, Key='k2/dir/')['Body'].read() == b'data in dir object'
chk('key a/ with data', dirobj)
def both():
    c.put_object(Bucket=B, Key='both/a', Body=b'1'); c.put_object(Bucket=B, Key='both/a/b', Body=b'2'); assert c.get_object(Bucket=B, Key='both/a')['Body'].read() == b'1'
    r = [x['Key'] for x in c.list_objects_v2(Bucket=B, Prefix='both/')['Contents']]; assert r == ['both/a', 'both/a/b'], r
chk('both a and a/b', both)
def both2():
    c.put_object(Bucket=B, Key='both2/a/b', Body=b'2'); c.put_object(Bucket=B, Key='both2/a', Body=b'1'); assert c.get_object(Bucket=B, Key='both2/a')['Body'].read() == b'1' and c.get_object(Bucket=B, Key='both2/a/b')['Body'].read() == b'2'
chk('both a/b then a', both2)
def empt():
    c.put_object(Bucket=B, Key='par/x', Body=b'1'); c.delete_object(Bucket=B, Key='par/x'); ks = [x['Key'] for x in c.list_objects_v2(Bucket=B, Prefix='par').get('Contents', [])] + c.list_objects_v2(Bucket=B, Prefix='par', Delimiter='/').get('CommonPrefixes', []); assert not ks, ks
    return 'ok; head of implied dir: %s' % code(lambda: c.head_object(Bucket=B, Key='l'))
chk('no ghost parent', empt)
def order():
    for k in ('o/a', 'o/a-b', 'o/a/b', 'o/a.b', 'o/B', 'o/é'): 
        try: c.put_object(Bucket=B, Key=k, Body=b'1')
        except ClientError: pass
    r = [x['Key'] for x in c.list_objects_v2(Bucket=B, Prefix='o/')['Contents']]; assert r == sorted(r, key=lambda s: s.encode()), r
    return 'ok (%d)' % len(r)
chk('utf8 order', order)
def enc():
    r = c.list_objects_v2(Bucket=B, Prefix='o/', EncodingType='url'); return 'ok' if r.get('EncodingType') == 'url' else 'no EncodingType'
chk('encoding-type=url', enc)
def ver():
    V = B + 'v'
    try: c.create_bucket(Bucket=V); c.put_bucket_versioning(Bucket=V, VersioningConfiguration={'Status': 'Enabled'})
    except ClientError as e: return 'no: %s' % e.response['Error']['Code']
    a = c.put_object(Bucket=V, Key='v', Body=b'1').get('VersionId'); b = c.put_object(Bucket=V, Key='v', Body=b'2').get('VersionId'); assert a and b and a != b, 'ids %r %r' % (a, b)
    assert c.get_object(Bucket=V, Key='v', VersionId=a)['Body'].read() == b'1'; c.delete_object(Bucket=V, Key='v'); assert str(code(lambda: c.get_object(Bucket=V, Key='v'))).startswith('404')
    r = c.list_object_versions(Bucket=V); assert len(r['Versions']) == 2 and len(r['DeleteMarkers']) == 1, 'list versions'
chk('versioning', ver)
chk('tagging', lambda: (c.put_object_tagging(Bucket=B, Key='obj', Tagging={'TagSet': [{'Key': 'a', 'Value': 'b'}]}), c.get_object_tagging(Bucket=B, Key='obj')['TagSet'] == [{'Key': 'a', 'Value': 'b'}])[1])
chk('get-bucket-policy/acl', lambda: 'policy-none=%s acl=%s' % (code(lambda: c.get_bucket_policy(Bucket=B)), code(lambda: c.get_object_acl(Bucket=B, Key='obj'))))
def cks():
    o = []
    for a in ('CRC32', 'CRC32C', 'SHA256', 'CRC64NVME'):
        try:
            c.put_object(Bucket=B, Key='ck', Body=b'abc', ChecksumAlgorithm=a); h = c.head_object(Bucket=B, Key='ck', ChecksumMode='ENABLED')
            if 'Checksum' + a not in h: o.append(a + ' not returned')
        except Exception as e: o.append('%s %s' % (a, type(e).__name__ + ' ' + str(e)[:50]))
    bad = code(lambda: c.put_object(Bucket=B, Key='ck2', Body=b'abc', ChecksumCRC32='AAAAAA=='))
    return ('ok' if not o else '; '.join(o)) + '; bad crc32 -> %s' % bad
chk('checksums', cks)
def attrs():
    r = c.get_object_attributes(Bucket=B, Key='mp', ObjectAttributes=['ETag', 'ObjectSize', 'ObjectParts']); assert r['ObjectSize'] == (10 << 20) + 1000
chk('get-object-attributes', attrs)
chk('errors', lambda: 'nokey=%s nobucket=%s' % (code(lambda: c.get_object(Bucket=B, Key='zzz')), code(lambda: c.get_object(Bucket='nosuch-bkt', Key='z'))))
chk('location/headbucket', lambda: '%s %s' % (code(lambda: c.get_bucket_location(Bucket=B)), code(lambda: c.head_bucket(Bucket=B))))
def unsigned():
    u = raw('GET', '/%s/obj' % B)
    return '%d accept-ranges=%s etag=%s lm=%s' % (u[0], u[1].get('accept-ranges'), 'etag' in u[1], 'last-modified' in u[1])
chk('raw get headers', unsigned)
def big():
    import concurrent.futures as f
    with f.ThreadPoolExecutor(8) as ex: rs = list(ex.map(lambda i: code(lambda: c.put_object(Bucket=B, Key='cc/same', Body=bytes([i]) * 100000)), range(40)))
    b = c.get_object(Bucket=B, Key='cc/same')['Body'].read(); assert len(b) == 100000 and len(set(b)) == 1, 'torn'; n = [r for r in rs if r != 200]; return 'ok' if not n else 'errors %r' % n[:3]
chk('40 racing puts', big)
